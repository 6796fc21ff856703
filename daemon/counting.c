/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counting tables: daemon/counting.h. The tables that one call needs of one user are a batch. A
 * user's batches stand in a queue, and the first of it is at work: some tables at a time go to a
 * thread, with descriptors of their own, and what it finds comes back into their tallies.
 */
#include "daemon/counting.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/account.h"
#include "daemon/errand.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/space.h"
#include "daemon/tableread.h"
#include "daemon/tally.h"

/* What a thread does before it tells: of so many tables, which need as many descriptors, or so long. */
#define TABLES_AT_ONCE 64
#define USEC_AT_ONCE   20000
/* A program with an older library may change a table of a newer one, and not say so. */
#define TRUST_USEC (10 * G_USEC_PER_SEC)
/* Counts that are no older are told as they are: whoever asks again and again costs no thread. */
#define FRESH_USEC (100 * 1000)
/* Work of a thread beyond which the user's tables are left alone for some times as long. */
#define REST_BEYOND_USEC 1000
#define REST_TIMES	 4

/* How long a call waits for counts. Others than the sessions' owner may be in a hurry. */
static const struct timeval patience = {.tv_usec = 200 * 1000};

/* A call that waits. */
struct counting {
	struct peer *peer;	 /* referenced */
	GPtrArray *batches;	 /* that are not done */
	struct event *impatient; /* NULL: the call went on without them */
};

struct item {
	struct tally *tally; /* the loop's; referenced */
	int table;	     /* a descriptor of its own */
	bool looked_at, counted, is_current;
	uint64_t mappings, bytes, changes; /* what was known, and then what was found */
};

struct batch {
	struct counting *counting;
	struct account *account; /* referenced */
	GPtrArray *tallies;	 /* referenced; those that are not begun yet are the last */
	struct item items[TABLES_AT_ONCE];
	size_t n_items;
	gint64 usec; /* that the threads have worked */
};

/* The end of waiting */

static void drop_tally(gpointer tally)
{
	tally_unref(tally);
}

static void batch_end(struct batch *batch)
{
	struct counting *counting = batch->counting;

	g_ptr_array_remove_fast(counting->batches, batch);
	account_put(batch->account);
	g_ptr_array_unref(batch->tallies);
	g_free(batch);
	if (counting->batches->len > 0)
		return;
	if (counting->impatient) {
		g_clear_pointer(&counting->impatient, event_free);
		peer_go_on_in_turn(counting->peer);
	}
	g_ptr_array_unref(counting->batches);
	peer_unref(counting->peer);
	g_free(counting);
}

/* What has not begun by now is not done at all: that would pile up behind work that hangs. */
static void on_impatient(evutil_socket_t fd, short events, void *data)
{
	struct counting *counting = data;
	g_autoptr(GPtrArray) batches = g_ptr_array_copy(counting->batches, NULL, NULL);
	struct peer *peer = peer_ref(counting->peer);

	(void)fd;
	(void)events;
	g_clear_pointer(&counting->impatient, event_free);
	for (guint i = 0; i < batches->len; i++) {
		struct batch *batch = g_ptr_array_index(batches, i);

		if (g_queue_peek_head(&batch->account->counting) == batch)
			continue; /* it is at work, and ends when that does */
		g_queue_remove(&batch->account->counting, batch);
		batch_end(batch);
	}
	peer_go_on_in_turn(peer);
	peer_unref(peer);
}

/* Work */

static gint64 thread_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

static void count_item(struct item *item)
{
	struct table_header header;

	if (item->changes > 0 && table_read_header(item->table, &header) == 0 &&
	    header.changes == item->changes) {
		item->is_current = true;
		return;
	}
	item->counted = space_count(item->table, &item->mappings, &item->bytes, &item->changes) ==
			0;
	item->is_current = item->counted;
}

static void count_in_thread(void *data)
{
	struct batch *batch = data;
	gint64 start = thread_usec(), usec = 0;

	for (size_t i = 0; i < batch->n_items && usec < USEC_AT_ONCE; i++) {
		count_item(&batch->items[i]);
		batch->items[i].looked_at = true;
		usec = thread_usec() - start;
	}
	for (size_t i = 0; i < batch->n_items; i++)
		close(batch->items[i].table);
	batch->usec += usec;
}

/* What was found goes into the tally; if the thread has not come to it, it is for the next one. */
static void take_counts(struct batch *batch, const struct item *item)
{
	struct tally *tally = item->tally;

	if (!item->looked_at) {
		g_ptr_array_add(batch->tallies, tally);
		return;
	}
	if (item->is_current)
		tally->current = g_get_monotonic_time();
	if (item->counted) {
		tally->mappings = item->mappings;
		tally->bytes = item->bytes;
		tally->changes = item->changes;
		tally->counted = g_get_monotonic_time();
	}
	tally_unref(tally);
}

static void begin_item(struct batch *batch, struct tally *tally)
{
	bool trusted = g_get_monotonic_time() - tally->counted < TRUST_USEC;
	int table = tally->table >= 0 ? fcntl(tally->table, F_DUPFD_CLOEXEC, 0) : -1;

	if (table < 0)
		return; /* It is gone; or descriptors are short, and nothing depends on counts. */
	batch->items[batch->n_items++] = (struct item){
		.tally = tally_ref(tally),
		.table = table,
		.changes = tally->counted > 0 && trusted ? tally->changes : 0,
	};
}

static void count_on(struct account *account);

static void count_done(void *data)
{
	struct batch *batch = data;
	struct account *account = batch->account;

	for (size_t i = 0; i < batch->n_items; i++)
		take_counts(batch, &batch->items[i]);
	count_on(account);
}

/* Whether there is something of the batch for a thread to do. */
static bool fill(struct batch *batch)
{
	batch->n_items = 0;
	while (batch->counting->impatient && batch->n_items < TABLES_AT_ONCE &&
	       batch->tallies->len > 0) {
		struct tally *tally = g_ptr_array_steal_index_fast(batch->tallies, 0);

		begin_item(batch, tally);
		tally_unref(tally);
	}
	return batch->n_items > 0;
}

/* The next work on the user's first batch or, if that is done, on those behind it. */
static void count_on(struct account *account)
{
	GQueue ended = G_QUEUE_INIT;
	struct batch *batch;

	while ((batch = g_queue_peek_head(&account->counting))) {
		if (fill(batch)) {
			errand_run(account, count_in_thread, count_done, batch);
			break;
		}
		g_queue_push_tail(&ended, g_queue_pop_head(&account->counting));
		if (batch->usec > REST_BEYOND_USEC)
			account->counting_rests = g_get_monotonic_time() + REST_TIMES * batch->usec;
	}
	/* Last, since their calls go on and may want more counted. */
	while ((batch = g_queue_pop_head(&ended)))
		batch_end(batch);
}

/* What is to be counted */

static bool is_due(const struct account *account, const struct tally *tally)
{
	const struct batch *at_work = g_queue_peek_head((GQueue *)&account->counting);
	gint64 now = g_get_monotonic_time();

	/* Somebody has waited for that work in vain already. */
	if (at_work && !at_work->counting->impatient)
		return false;
	if (tally->counted > 0 && now - tally->current < FRESH_USEC)
		return false;
	return tally->counted == 0 || now >= account->counting_rests;
}

/* The batch of that session's owner, made when first needed. */
static struct batch *find_batch(struct counting *counting, struct account *account)
{
	struct batch *batch;

	for (guint i = 0; i < counting->batches->len; i++) {
		batch = g_ptr_array_index(counting->batches, i);
		if (batch->account == account)
			return batch;
	}
	account->references++;
	batch = g_new0(struct batch, 1);
	batch->counting = counting;
	batch->account = account;
	batch->tallies = g_ptr_array_new_with_free_func(drop_tally);
	g_ptr_array_add(counting->batches, batch);
	return batch;
}

static void add_tables(struct counting *counting, const struct session *session)
{
	const GPtrArray *tables = session->objects.tables;

	for (guint i = 0; i < tables->len; i++) {
		const struct object *table = g_ptr_array_index(tables, i);

		if (is_due(session->account, table->tally))
			g_ptr_array_add(find_batch(counting, session->account)->tallies,
					tally_ref(table->tally));
	}
}

bool counting_wait(struct peer *peer, const GPtrArray *sessions, void (*then)(struct peer *peer))
{
	struct counting *counting = g_new0(struct counting, 1);
	g_autoptr(GPtrArray) batches = NULL;

	counting->batches = g_ptr_array_new();
	for (guint i = 0; i < sessions->len; i++)
		add_tables(counting, g_ptr_array_index(sessions, i));
	if (counting->batches->len == 0) {
		g_ptr_array_unref(counting->batches);
		g_free(counting);
		return false;
	}
	counting->peer = peer_ref(peer);
	counting->impatient = evtimer_new(peer->server->base, on_impatient, counting);
	event_add(counting->impatient, &patience);
	peer->call.then = then;
	batches = g_ptr_array_copy(counting->batches, NULL, NULL);
	for (guint i = 0; i < batches->len; i++) {
		struct batch *batch = g_ptr_array_index(batches, i);

		g_queue_push_tail(&batch->account->counting, batch);
		if (batch->account->counting.length == 1)
			count_on(batch->account);
	}
	return true;
}
