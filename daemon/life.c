/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A session's life: daemon/life.h. Its holder is known by a pidfd, which is readable from the death
 * on: nothing else has to remember that somebody died.
 */
#include "daemon/life.h"

#include <errno.h>

#include "common/fd.h"
#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/log.h"
#include "daemon/oldorphan.h"
#include "daemon/opaque.h"
#include "daemon/orphan.h"
#include "daemon/peer.h"
#include "daemon/process.h"
#include "daemon/replay.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/unitlook.h"
#include "daemon/unitnote.h"

/* The end */

static void release_done(struct session *session)
{
	GQueue waiting = session->waiting;
	struct server *server = session->server;
	g_autofree char *name = g_strdup(session->copy_of ? session->copy_of : session->name);
	uid_t uid = session->uid;

	if (keep_holds(session)) {
		/* It is tried again. Who held it has nothing of it any more, and need not be watched. */
		holder_clear(&session->holder);
		keep_state(session); /* so that the next daemon goes on with it */
		session_set_idle(session);
		return;
	}
	session_happened(session, HAPPENED_RELEASED, NULL);
	server_remove_session(server, session);
	session_free(session);
	if (server->released)
		server->released(server, uid, name);
	session_go_on(&waiting);
}

void session_release(struct session *session)
{
	auto_fdlist fds = FDLIST_INIT;

	session_set_state(session, SESSION_RELEASING);
	oldorphan_forget(session);
	if (session->peer && session->peer->writer.fds)
		peer_close(session->peer); /* its answer would name descriptors closed here */
	account_count_descriptors(session->account, -(ssize_t)session->opaque_held);
	session->opaque_held = 0;
	opaque_list_take_all(session->opaque, &fds);
	keep_end(session, &fds, release_done);
}

/* The holder */

/*
 * The death since which the VM has no VMM. If a successor dies before its Commit, that is still the
 * death before it.
 */
static void note_death(struct session *session)
{
	if (session->died == 0)
		session->died = g_get_monotonic_time();
}

static void holder_died(struct session *session)
{
	pid_t pid = session->holder.pid;

	g_assert(!session->busy);
	note_death(session);
	log_debug(session, "session %s: holder %d died", session->name, (int)pid);
	holder_clear(&session->holder);
	if (session->peer)
		/* A child of the dead process may have its socket, and an answer may be on its way. */
		peer_close(session->peer);
	if (session->objects.objects->len == 0 && session->opaque->len == 0)
		session_release(session);
	else
		orphan_begin(session, pid);
}

/*
 * If a worker is at the session, the death is dealt with after its work: session_set_idle() watches
 * the pidfd again, which is readable still.
 */
static void on_death(evutil_socket_t fd, short events, void *data)
{
	struct session *session = data;

	(void)fd;
	(void)events;
	note_death(session);
	if (!session->busy)
		holder_died(session);
}

static void watch_holder(struct session *session)
{
	struct holder *holder = &session->holder;

	holder->death = event_new(session->server->base, holder->pidfd, EV_READ, on_death, session);
	event_add(holder->death, NULL);
}

static void set_holder(struct session *session, struct peer *peer)
{
	struct holder *holder = &session->holder;

	holder_clear(&session->holder);
	oldorphan_forget(session);
	unit_look_drop(g_steal_pointer(&session->unit_look));
	g_clear_pointer(&session->unit, g_free);
	holder->pid = peer->pid;
	holder->pidfd = fd_take(&peer->pidfd);
	watch_holder(session);
	session_resume(session, peer);
}

void session_resume(struct session *session, struct peer *peer)
{
	fd_close(&peer->pidfd); /* of the process whose pidfd the session has */
	if (session->peer)
		peer_close(session->peer);
	session->peer = peer;
	peer->session = session;
}

bool session_holder_lives(struct session *session)
{
	if (!session_is_held(session))
		return false;
	if (process_lives(session->holder.pidfd))
		return true;
	holder_died(session);
	return false;
}

/* The beginning, and what becomes of it */

struct session *session_new(struct server *server, const char *name, uid_t uid, struct peer *peer)
{
	struct session *session = session_make(server, name, uid, SESSION_ACTIVE);

	set_holder(session, peer);
	server_add_session(server, session);
	keep_begin(session);
	session_happened(session, HAPPENED_CREATED, NULL);
	unitnote_begin(session);
	return session;
}

/* The number that the last daemon wrote down may be of another PID namespace than this one's. */
static struct holder recover_holder(struct holder *found)
{
	pid_t now = found->pidfd >= 0 ? process_number(found->pidfd) : -ENOENT;

	return (struct holder){
		.pidfd = fd_take(&found->pidfd),
		.pid = now >= 0 ? now : found->pid,
	};
}

/* Those that the last daemon had removed, and systemd may hold yet, are its too. */
static void recover_devices(struct session *session, const struct replay *replay)
{
	devices_take(session->server, session, &session->objects);
	devices_take_opaque(session->server, session);
	session->debt.copy = replay->removed;
	session->device_closing = replay->removed_devices->len > 0;
	for (guint i = 0; i < replay->removed_devices->len; i++)
		devices_take_closing(session->server, session,
				     g_ptr_array_index(replay->removed_devices, i));
}

struct session *session_recover(struct server *server, struct replay *replay,
				struct journal *journal)
{
	struct session *session = session_make(server, replay->name, replay->uid, replay->state);

	session->generation = replay->generation;
	if (replay->lineage != 0)
		session->lineage = replay->lineage;
	session->since = replay->since;
	session->died = replay->died;
	session->holder = recover_holder(&replay->holder);
	session->unit = g_steal_pointer(&replay->unit);
	session->journal = journal;
	g_hash_table_unref(session->spaces);
	session->spaces = g_steal_pointer(&replay->spaces);
	object_set_move(&session->objects, &replay->objects);
	opaque_list_move(session->opaque, replay->opaque);
	session->opaque_held = opaque_list_count(session->opaque);
	account_count_descriptors(session->account, (ssize_t)session->opaque_held);
	server_add_session(server, session);
	recover_devices(session, replay);
	if (session->state == SESSION_RELEASING) {
		session_release(session);
		return session;
	}
	if (session->died == 0 && !process_lives(session->holder.pidfd))
		session->died = SESSION_DIED_UNSEEN;
	if (!session->unit) /* it is in the journal, unless an older daemon wrote it */
		unitnote_begin(session);
	if (session_is_held(session))
		watch_holder(session); /* dead meanwhile: its pidfd is readable at once */
	else if (session->state != SESSION_ORPHANED)
		holder_died(session); /* the last daemon did not finish the work after the death */
	else
		oldorphan_watch(session);
	return session;
}

struct session *session_unreadable(struct server *server, const char *name, uid_t uid,
				   const char *copy_of, struct journal *journal,
				   const char *problem)
{
	struct session *session = session_make(server, name, uid, SESSION_UNREADABLE);

	session->journal = journal;
	session->copy_of = g_strdup(copy_of);
	session->problem = g_strdup(problem);
	server_add_session(server, session);
	return session;
}

void session_claim(struct session *session, struct peer *peer)
{
	set_holder(session, peer);
	session_set_state(session, SESSION_RESTORING);
}

bool session_commit(struct session *session, gint64 *ret_died)
{
	if (session->state == SESSION_ACTIVE)
		return false;
	*ret_died = session->died;
	session->died = 0;
	g_hash_table_remove_all(session->spaces);
	session_set_state(session, SESSION_ACTIVE);
	return true;
}
