/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions and their journals: daemon/keep.h. What of it is a worker's: swap.c. */
#include "daemon/keep.h"

#include <errno.h>

#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/fdstore.h"
#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/opaque.h"
#include "daemon/owed.h"
#include "daemon/record.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/swap.h"
#include "daemon/worker.h"

#define SPARE_ENTRIES 8	   /* of the store: journals written anew need room beside the old ones */
#define ROOT_SHARE    16   /* one of so many entries is root's alone */
#define DEAD_RECORDS  1024 /* more than the live ones, and a journal is written anew */
#define DEAD_FDS      256  /* and a quarter of what it holds: so many dead descriptors, likewise */
#define TIDY_PAUSE    (10 * G_USEC_PER_SEC) /* after it could not be */
#define WAITS_MAX     40

/* While too many descriptors are in flight, which others' reading and releasing ends. */
static const struct timeval wait_pause = {.tv_usec = 50 * 1000};

char *keep_refusal(uid_t uid)
{
	unsigned int reserve = uid == 0 ? 0 : fdstore_part(ROOT_SHARE);

	return fdstore_exists() ? fdstore_refusal(JOURNAL_ENTRIES + SPARE_ENTRIES + reserve) : NULL;
}

char *keep_explain(int error)
{
	switch (error) {
	case 0:
		return g_strdup("the last daemon did not come to it");
	case -ETIMEDOUT:
		return g_strdup("systemd (PID 1) did not answer in 10 s");
	case -ENOSPC:
		return g_strdup(
			"systemd did not keep the session's journal, as its fd store is full: "
			"raise FileDescriptorStoreMax of vfio-cprd.service");
	case -EBUSY:
		return g_strdup(
			"systemd was told to close the session's journal, and it is open yet");
	case -EPIPE:
		return g_strdup("systemd does not keep the session's journal any more: was "
				"FileDescriptorStoreMax of vfio-cprd.service lowered?");
	case -EAGAIN:
	case -EMSGSIZE:
		return g_strdup("the session is too large for a journal: raise net.core.wmem_max");
	case -ETOOMANYREFS:
		return g_strdup("too many descriptors are in journals and unread answers: raise "
				"LimitNOFILE of vfio-cprd.service to twice what is held");
	default:
		return g_strdup_printf("the session's journal could not be stored with systemd: %s",
				       g_strerror(-error));
	}
}

/* What is owed */

bool keep_holds(const struct session *session)
{
	const struct debt *debt = &session->debt;

	if (debt->journals->len > 0)
		return true;
	return session->state == SESSION_RELEASING ? session->journal != NULL : debt->copy;
}

static bool owes(const struct session *session)
{
	return keep_holds(session) || (session->debt.state && session->state != SESSION_RELEASING);
}

static char *describe_debt(const struct session *session)
{
	g_autofree char *cause = keep_explain(session->debt.error);

	if (session->state == SESSION_RELEASING)
		return g_strdup_printf(
			"session %s is released, but systemd still holds what was in "
			"it: %s",
			session->name, cause);
	if (!session->journal)
		return g_strdup_printf(
			"session %s has no journal with systemd, so that the daemon's "
			"death would lose it: %s",
			session->name, cause);
	if (keep_holds(session))
		return g_strdup_printf(
			"systemd still holds what was removed from session %s, or an "
			"old copy of its journal: %s",
			session->name, cause);
	return g_strdup_printf(
		"the journal of session %s lacks its state, so that the daemon's death "
		"would undo its last claim or Commit: %s",
		session->name, cause);
}

static void settle_again(void *data)
{
	struct session *session = data;

	if (session->busy)
		owed_note(session->debt.owed, owed_why(session->debt.owed));
	else
		keep_settle(session);
}

static void note_debt(struct session *session, int error)
{
	g_autofree char *why = NULL;

	session->debt.error = error;
	if (!session->debt.owed)
		session->debt.owed = owed_new(session->uid, settle_again, session);
	why = describe_debt(session);
	/* What the last daemon has left is nothing that failed. */
	if (owed_note(session->debt.owed, why))
		log_limited(session->uid, error == 0 ? G_LOG_LEVEL_MESSAGE : G_LOG_LEVEL_CRITICAL,
			    session, "%s; it is tried again until it is done", why);
}

static void settle_debt(struct session *session)
{
	if (session->debt.owed && owed_settle(session->debt.owed))
		log_limited(session->uid, G_LOG_LEVEL_MESSAGE, session,
			    "session %s: its journal is with systemd as it should be again",
			    session->name);
}

/* What is in flight */

/* Keeps the account of it; coming: descriptors that are about to be written. */
static void count_in_flight(struct session *session, size_t coming)
{
	size_t n = coming + (session->journal ? session->journal->descriptors : 0);

	for (guint i = 0; i < session->debt.journals->len; i++)
		n += ((struct journal *)g_ptr_array_index(session->debt.journals, i))->descriptors;
	account_count_in_flight(session->account, (ssize_t)n - (ssize_t)session->in_flight);
	session->in_flight = n;
}

/* What a copy of the session brings: a sending end and a pidfd besides what it holds. */
static size_t size_of_copy(const struct session *session)
{
	return object_set_total(&session->objects) + opaque_list_count(session->opaque) + 2;
}

/* The end of an exchange */

static void forget(struct journal *journal)
{
	journal_give_room(journal);
	journal_free(journal);
}

/* It may be in the fd store yet: it is dropped with the next exchange. */
static void leave(struct session *session, struct journal *journal)
{
	g_ptr_array_add(session->debt.journals, journal);
}

static void forget_gone(struct session *session, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		forget(g_ptr_array_index(session->debt.journals, i));
	g_ptr_array_remove_range(session->debt.journals, 0, n);
}

/* The new copy is the session's journal. */
static void take_copy(struct swap *swap)
{
	struct session *session = swap->session;

	if (session->journal && swap->old_is_gone)
		forget(session->journal);
	else if (session->journal)
		leave(session, session->journal);
	session->journal = swap->in;
	session->debt.copy = session->debt.state = false;
}

static void give_up_copy(struct swap *swap)
{
	/* Nothing is owed if this was to make room: the old journal has it all. */
	if (!swap->session->journal)
		swap->session->debt.copy = swap->session->debt.state = true;
	if (swap->in && swap->in_is_left)
		leave(swap->session, swap->in);
	else if (swap->in)
		forget(swap->in);
}

/* The copy would not have it, and nor does the old journal now: at least no restart brings it back. */
static void finish_removal(struct swap *swap)
{
	if (swap->removed && swap->stored < 0 && swap->session->journal)
		record_remove(swap->session->journal, swap->removed_kind, swap->removed);
	g_clear_pointer(&swap->removed, g_free);
}

static void finish_devices(struct session *session)
{
	if (!session->device_closing || keep_holds(session))
		return;
	devices_drop_closed(session->server, session);
	session->device_closing = false;
}

static void finish_exchange(struct swap *swap)
{
	struct session *session = swap->session;

	forget_gone(session, swap->n_gone);
	if (swap->anew) {
		if (swap->stored == 0)
			take_copy(swap);
		else
			give_up_copy(swap);
	} else if (swap->old_is_gone) {
		forget(session->journal);
		session->journal = NULL;
	}
	finish_removal(swap);
	count_in_flight(session, 0);
	if (swap->anew && swap->stored < 0)
		session->debt.tidy_after = g_get_monotonic_time() + TIDY_PAUSE;
	if (owes(session))
		note_debt(session, swap->stored < 0 ? swap->stored : swap->dropped);
	else
		settle_debt(session);
}

static void finish_swap(struct session *session)
{
	finish_devices(session);
	if (session->state == SESSION_RELEASING)
		session->debt.released(session);
	else
		session_set_idle(session);
}

static void begin(struct session *session, struct swap what, struct fdlist *fds)
{
	struct swap *swap = g_memdup2(&what, sizeof(what));

	g_assert(!session->busy);
	swap->session = session;
	swap->exchanged = finish_exchange;
	swap->done = finish_swap;
	if (fds)
		fdlist_move(&swap->fds, fds);
	swap->is_again = session->debt.owed && owed_why(session->debt.owed);
	if (swap->is_again)
		owed_try(session->debt.owed);
	if (swap->anew)
		count_in_flight(session, size_of_copy(session));
	swap_begin(swap);
}

void keep_begin(struct session *session)
{
	if (fdstore_exists())
		begin(session, (struct swap){.anew = true}, NULL);
}

void keep_anew(struct session *session)
{
	begin(session, (struct swap){.anew = fdstore_exists(), .drops = true}, NULL);
}

void keep_removal(struct session *session, enum object_kind kind, const char *name,
		  struct fdlist *fds)
{
	struct swap swap = {.anew = fdstore_exists(), .drops = true};

	session->device_closing |= kind == OBJECT_DEVICE;
	if (swap.anew) {
		session->debt.copy = true;
		swap.removed_kind = kind;
		swap.removed = g_strdup(name);
	}
	begin(session, swap, fds);
}

static bool is_untidy(const struct session *session)
{
	const struct journal *journal = session->journal;
	size_t objects = session->objects.objects->len, live = size_of_copy(session);

	if (journal->descriptors > live + live / 4 + DEAD_FDS)
		return account_may_fly(session->account, live, FLIGHT_RECORD);
	return journal->records > 2 * objects + DEAD_RECORDS ||
	       (journal_is_crowded(journal) && journal->records > objects + 16);
}

void keep_tidy(struct session *session)
{
	if (session->journal && !session->busy && is_untidy(session) &&
	    g_get_monotonic_time() >= session->debt.tidy_after)
		keep_anew(session);
}

void keep_end(struct session *session, struct fdlist *fds, void (*done)(struct session *session))
{
	struct swap swap = {.drops = true};

	if (session->objects.objects->len > 0)
		swap.objects = object_set_steal(&session->objects);
	session->debt.released = done;
	begin(session, swap, fds);
}

void keep_settle(struct session *session)
{
	bool released = session->state == SESSION_RELEASING;
	bool anew = !released && (session->debt.copy || session->debt.state);

	begin(session, (struct swap){.anew = anew, .drops = anew || released}, NULL);
}

void keep_recovered(struct session *session)
{
	if (!session->busy)
		count_in_flight(session, 0);
	if (!owes(session))
		return;
	note_debt(session, 0);
	if (!session->busy)
		keep_settle(session);
}

/* One change */

/* Looks at what became of a record. */
static int recorded(struct session *session, int r)
{
	count_in_flight(session, 0);
	if (r != -EPIPE || !session->journal)
		return r;
	/* systemd has dropped it. What is left of it goes when there is a new one. */
	leave(session, g_steal_pointer(&session->journal));
	session->debt.copy = session->debt.state = true;
	return r;
}

int keep_objects_part(struct session *session, const struct object_set *objects,
		      struct object_cursor *cursor)
{
	bool begins = cursor->object == 0 && cursor->number == 0;

	if (!fdstore_exists())
		return 0;
	if (!session->journal)
		return -EPIPE;
	if (begins && !account_may_fly(session->account, object_set_total(objects), FLIGHT_RECORD))
		return -ETOOMANYREFS;
	return recorded(session, record_objects_part(session->journal, objects, cursor));
}

int keep_state(struct session *session)
{
	int r = -EPIPE;

	if (!fdstore_exists())
		return 0;
	if (session->journal)
		r = recorded(session, record_state(session->journal, session));
	session->debt.state = r < 0;
	return r;
}

static void wait_for_flight(struct session *session);

static void on_wait_over(evutil_socket_t fd, short events, void *data)
{
	struct session *session = data;
	int r = keep_state(session);

	(void)fd;
	(void)events;
	if (r == -ETOOMANYREFS && ++session->debt.waits < WAITS_MAX) {
		wait_for_flight(session);
		return;
	}
	session->busy = false;
	if (r == 0 || r == -ETOOMANYREFS) {
		if (r < 0)
			note_debt(session, r);
		session_set_idle(session);
	} else {
		keep_anew(session);
	}
}

static void wait_for_flight(struct session *session)
{
	session->busy = true;
	event_base_once(session->server->base, -1, EV_TIMEOUT, on_wait_over, session, &wait_pause);
}

void keep_state_again(struct session *session, int error)
{
	session->debt.waits = 0;
	if (error == -ETOOMANYREFS)
		wait_for_flight(session);
	else
		keep_anew(session);
}

void keep_state_later(struct session *session)
{
	int r = keep_state(session);

	if (r < 0)
		note_debt(session, r);
}

/* Journals of no session */

struct stray {
	struct journal *journal;
	struct owed *owed;
	int result;
};

static GQueue strays = G_QUEUE_INIT;

static void drop_in_thread(void *data)
{
	struct stray *stray = data;

	stray->result = journal_unpark(stray->journal);
}

static void drop_again(void *data);

static void drop_done(void *data)
{
	struct stray *stray = data;
	g_autofree char *cause = NULL, *why = NULL;

	if (stray->result == 0) {
		g_queue_remove(&strays, stray);
		forget(stray->journal);
		owed_free(stray->owed);
		g_free(stray);
		return;
	}
	cause = keep_explain(stray->result);
	why = g_strdup_printf("systemd still holds %s, which is to be dropped: %s",
			      stray->journal->name, cause);
	if (owed_note(stray->owed, why))
		log_limited(0, G_LOG_LEVEL_CRITICAL, NULL, "%s; it is tried again until it is done",
			    why);
}

static void drop_again(void *stray)
{
	worker_run(drop_in_thread, drop_done, stray);
}

void keep_drop(struct journal *journal)
{
	struct stray *stray = g_new0(struct stray, 1);

	stray->journal = journal;
	stray->owed = owed_new(0, drop_again, stray);
	g_queue_push_tail(&strays, stray);
	drop_again(stray);
}

void keep_stop(void)
{
	struct stray *stray;

	while ((stray = g_queue_pop_head(&strays))) {
		journal_free(stray->journal);
		owed_free(stray->owed);
		g_free(stray);
	}
}
