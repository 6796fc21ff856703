/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions and their journals: daemon/keep.h. PID 1 may be slow, so all talk with it is a worker's. */
#include "daemon/keep.h"

#include <errno.h>

#include "daemon/fdstore.h"
#include "daemon/journal.h"
#include "daemon/kernel.h"
#include "daemon/log.h"
#include "daemon/record.h"
#include "daemon/session.h"
#include "daemon/worker.h"

#define SPARE_ENTRIES 8	   /* of the store: journals written anew need room beside the old ones */
#define ROOT_SHARE    16   /* one of so many entries is root's alone */
#define DEAD_RECORDS  1024 /* more than the live ones, and a journal is written anew */

char *keep_refusal(uid_t uid)
{
	unsigned int reserve = uid == 0 ? 0 : fdstore_part(ROOT_SHARE);

	return fdstore_exists() ? fdstore_refusal(JOURNAL_ENTRIES + SPARE_ENTRIES + reserve) : NULL;
}

/* One swap in the fd store: a journal in, another out, and then descriptors closed. */
struct swap {
	struct session *session;
	struct journal *in, *out; /* NULL: none */
	struct fdlist fds;
	void (*done)(struct session *session);
	int result;
};

/*
 * Stores a journal. When PID 1 has it, this process's receiving end is closed, so that a record can
 * only be written if PID 1 really has it: the first that is makes the journal count.
 */
static int store(struct journal *journal)
{
	int r = journal_park(journal);

	kernel->close(journal->receive);
	journal->receive = -1;
	return r == 0 ? record_complete(journal) : r;
}

static void swap_in_thread(void *data)
{
	struct swap *swap = data;

	if (swap->in)
		swap->result = store(swap->in);
	if (swap->in && swap->result < 0)
		journal_unpark(swap->in);
	else if (swap->out)
		journal_unpark(swap->out);
	for (size_t i = 0; i < swap->fds.n; i++)
		kernel->close(swap->fds.fds[i]);
	swap->fds.n = 0;
	fdlist_clear(&swap->fds);
}

static void swap_done(void *data)
{
	struct swap *swap = data;
	struct session *session = swap->session;

	if (swap->in && swap->result < 0) {
		log_limited(session->uid, G_LOG_LEVEL_CRITICAL, session,
			    "session %s: its journal could not be stored with systemd (%s): %s",
			    session->name, g_strerror(-swap->result),
			    swap->out ? "the old one stays"
				      : "it would not survive the daemon's death");
		session->kept = swap->result;
		journal_give_room(swap->in);
		journal_free(swap->in);
	} else if (swap->in || swap->out) {
		if (swap->out)
			journal_give_room(swap->out);
		journal_free(swap->out);
		session->journal = swap->in;
	}
	swap->done(session);
	g_free(swap);
}

static void swap_begin(struct session *session, struct journal *in, struct journal *out,
		       struct fdlist *fds, void (*done)(struct session *session))
{
	struct swap *swap = g_new0(struct swap, 1);

	g_assert(!session->busy);
	swap->session = session;
	swap->in = in;
	swap->out = out;
	swap->done = done;
	if (fds)
		fdlist_move(&swap->fds, fds);
	if (in)
		journal_take_room(in);
	session->busy = true;
	worker_run(swap_in_thread, swap_done, swap);
}

/* A journal with the whole session in it, not stored yet. */
static int write_copy(struct session *session, struct journal **ret_journal)
{
	struct journal *journal = NULL; /* compilers do not know that an error is negative */
	int r = journal_new(session->name, session->uid, &journal);

	if (r < 0)
		return r;
	session->generation++;
	r = record_copy(journal, session);
	if (r < 0)
		journal_free(journal);
	else
		*ret_journal = journal;
	return r;
}

static void complain(const struct session *session, int error)
{
	if (error == -EAGAIN || error == -EMSGSIZE)
		log_limited(session->uid, G_LOG_LEVEL_CRITICAL, session,
			    "session %s is too large for a journal: raise net.core.wmem_max",
			    session->name);
	else if (error == -ETOOMANYREFS)
		log_limited(
			session->uid, G_LOG_LEVEL_CRITICAL, session,
			"session %s has more descriptors than may be in flight: raise LimitNOFILE of "
			"vfio-cprd.service to twice what is held",
			session->name);
	else
		log_limited(session->uid, G_LOG_LEVEL_CRITICAL, session,
			    "session %s: its journal cannot be written: %s", session->name,
			    g_strerror(-error));
}

void keep_begin(struct session *session)
{
	struct journal *journal = NULL;
	int r;

	if (!fdstore_exists())
		return;
	r = session->kept = write_copy(session, &journal);
	if (r < 0)
		complain(session, r);
	else
		swap_begin(session, journal, NULL, NULL, session_set_idle);
}

int keep_objects(struct session *session, const struct object_set *objects)
{
	if (!fdstore_exists())
		return 0;
	return session->journal ? record_objects(session->journal, objects) : -EPIPE;
}

int keep_state(struct session *session)
{
	if (!fdstore_exists())
		return 0;
	return session->journal ? record_state(session->journal, session) : -EPIPE;
}

int keep_removal(struct session *session, enum object_kind kind, const char *name)
{
	if (!fdstore_exists())
		return 0;
	return session->journal ? record_remove(session->journal, kind, name) : -EPIPE;
}

void keep_anew(struct session *session, struct fdlist *fds)
{
	struct journal *journal = NULL;
	int r = fdstore_has_room(JOURNAL_ENTRIES) ? write_copy(session, &journal) : -ENOSPC;

	session->kept = fdstore_exists() ? r : 0;
	if (r == 0) {
		swap_begin(session, journal, session->journal, fds, session_set_idle);
		return;
	}
	if (fdstore_exists())
		complain(session, r);
	/* The journal stays as it is, and the descriptors are closed all the same. */
	swap_begin(session, NULL, NULL, fds, session_set_idle);
}

void keep_tidy(struct session *session)
{
	const struct journal *journal = session->journal;

	if (!journal || session->busy)
		return;
	if (journal->records > 2 * session->objects.objects->len + DEAD_RECORDS ||
	    (journal_is_crowded(journal) && journal->records > session->objects.objects->len + 16))
		keep_anew(session, NULL);
}

void keep_end(struct session *session, struct fdlist *fds, void (*done)(struct session *session))
{
	swap_begin(session, NULL, session->journal, fds, done);
}

static void drop_in_thread(void *journal)
{
	journal_unpark(journal);
}

static void drop_done(void *journal)
{
	journal_give_room(journal);
	journal_free(journal);
}

void keep_drop(struct journal *journal)
{
	worker_run(drop_in_thread, drop_done, journal);
}
