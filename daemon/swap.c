/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A journal in, another out: daemon/swap.h. */
#include "daemon/swap.h"

#include <errno.h>

#include "daemon/fdstore.h"
#include "daemon/journal.h"
#include "daemon/kernel.h"
#include "daemon/record.h"
#include "daemon/session.h"
#include "daemon/worker.h"

static GQueue waiting_for_room = G_QUEUE_INIT; /* of struct swap */
static unsigned int swaps_with_copy;	       /* that are under way */

/* In the worker */

/*
 * Parks the copy. When PID 1 has it, this process's receiving end is closed, so that a record can
 * only be written if PID 1 really has it: the first that is makes the journal count.
 */
static int park(struct journal *journal)
{
	int r = journal_park(journal);

	kernel->close(journal->receive);
	journal->receive = -1;
	if (r == 0)
		r = record_complete(journal);
	/* PID 1 answers, and does not have it: it says nothing when its store is full. */
	return r == -EPIPE ? -ENOSPC : r;
}

static int store(struct swap *swap)
{
	int r = record_rest(swap->in, swap->session);

	if (r < 0)
		return r;
	r = park(swap->in);
	/* One that does not answer would only be waited for a second time: that is for later. */
	swap->in_is_left = r < 0 && (r != -ENOSPC || journal_unpark(swap->in) < 0);
	return r;
}

/* What an earlier exchange has left goes first: it may be what there is no room for. */
static int drop_left(struct swap *swap)
{
	const GPtrArray *left = swap->session->debt.journals;
	int r = 0;

	for (guint i = 0; i < left->len && r == 0; i++) {
		r = journal_unpark(g_ptr_array_index(left, i));
		swap->n_gone += r == 0;
	}
	return r;
}

static void exchange(struct swap *swap)
{
	const struct journal *old = swap->session->journal;
	int r = swap->is_again ? fdstore_barrier() : 0;

	if (r == 0)
		r = drop_left(swap);
	swap->dropped = r;
	if (swap->anew && swap->stored == 0)
		swap->stored = r == 0 ? store(swap) : r;
	if (r < 0 || swap->stored < 0 || !swap->drops || !old)
		return;
	swap->dropped = journal_unpark(old);
	swap->old_is_gone = swap->dropped == 0;
}

static void swap_in_thread(void *data)
{
	exchange(data);
}

static void close_in_thread(void *data)
{
	struct swap *swap = data;

	if (swap->objects)
		object_set_close(g_steal_pointer(&swap->objects));
	for (size_t i = 0; i < swap->fds.n; i++)
		kernel->close(swap->fds.fds[i]);
	swap->fds.n = 0;
	fdlist_clear(&swap->fds);
}

/* In the loop */

static void start_next(void)
{
	struct swap *next = g_queue_pop_head(&waiting_for_room);

	if (next)
		swap_begin(next);
}

static void swap_done(void *data)
{
	struct swap *swap = data;

	/* The daemon may have ended before: daemon/server.c. */
	if (swap->session->server)
		swap->done(swap->session);
	g_free(swap);
}

/* The last close of a device or a container waits for what its user's processes do. */
static void exchange_done(void *data)
{
	struct swap *swap = data;

	swaps_with_copy -= swap->anew;
	if (swap->session->server)
		swap->exchanged(swap);
	if (swap->fds.n > 0 || swap->objects)
		worker_run_or_hang(close_in_thread, swap_done, swap);
	else
		swap_done(swap);
	start_next();
}

/* A copy with its first records, which are few: the rest is written by the worker. */
static int make_copy(struct session *session, struct journal **ret_journal)
{
	struct journal *journal = NULL; /* compilers do not know that an error is negative */
	int r = journal_new(session->name, session->uid, &journal);

	if (r < 0)
		return r;
	session->generation++;
	r = record_head(journal, session);
	if (r < 0)
		journal_free(journal);
	else
		*ret_journal = journal;
	return r;
}

static void swap_start(struct swap *swap)
{
	swap->stored = 0;
	if (swap->anew) {
		swaps_with_copy++;
		swap->stored = fdstore_has_room(JOURNAL_ENTRIES)
				       ? make_copy(swap->session, &swap->in)
				       : -ENOSPC;
	}
	if (swap->in)
		journal_take_room(swap->in);
	worker_run(swap_in_thread, exchange_done, swap);
}

void swap_begin(struct swap *swap)
{
	swap->session->busy = true;
	if (swap->anew && swaps_with_copy > 0 && !fdstore_has_room(JOURNAL_ENTRIES))
		g_queue_push_tail(&waiting_for_room, swap);
	else
		swap_start(swap);
}
