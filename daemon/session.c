/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of a session: daemon/session.h. What it holds is in object.c, what follows the death of
 * its holder in orphan.c, its journal in keep.c.
 */
#include "daemon/session.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/account.h"
#include "daemon/keep.h"
#include "daemon/log.h"
#include "daemon/monitor.h"
#include "daemon/oldorphan.h"
#include "daemon/orphan.h"
#include "daemon/peer.h"
#include "daemon/record.h"
#include "daemon/server.h"
#include "daemon/unit.h"

const char *session_visible_state(const struct session *session)
{
	bool held = session->state == SESSION_ACTIVE || session->state == SESSION_RESTORING;

	return session_state_name(held && session->holder.pid == 0 ? SESSION_ORPHANED
								   : session->state);
}

void session_set_state(struct session *session, enum session_state state)
{
	session->state = state;
	session->since = g_get_monotonic_time();
	server_changed(session->server);
}

static void space_status_free(gpointer data)
{
	struct space_status *status = data;

	g_free(status->warning);
	g_free(status);
}

GHashTable *session_spaces_new(void)
{
	return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, space_status_free);
}

/* The holder */

static void clear_holder(struct session *session)
{
	struct holder *holder = &session->holder;

	if (holder->death)
		event_free(holder->death);
	fd_close(&holder->pidfd);
	*holder = (struct holder){.pidfd = -1};
}

static void holder_died(struct session *session)
{
	pid_t pid = session->holder.pid;

	/* Not anew for one that died before it was the VMM: the outage goes on. */
	if (session->died == 0)
		session->died = g_get_monotonic_time();
	if (session->busy) {
		session->death_untold = true;
		return;
	}
	log_debug(session, "session %s: holder %d died", session->name, (int)pid);
	clear_holder(session);
	if (session->peer)
		/* A child of the dead process may have its socket, and an answer may be on its way. */
		peer_close(session->peer);
	if (session->objects.objects->len == 0)
		session_release(session);
	else
		orphan_begin(session, pid);
}

static void on_death(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	holder_died(data);
}

static bool is_running(const struct holder *holder)
{
	struct pollfd death = {.fd = holder->pidfd, .events = POLLIN};

	return holder->pidfd >= 0 && poll(&death, 1, 0) == 0;
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

	clear_holder(session);
	oldorphan_forget(session);
	g_clear_pointer(&session->unit, g_free);
	session->unit_due = true;
	holder->pid = peer->pid;
	holder->pidfd = fd_take(&peer->pidfd);
	watch_holder(session);
	session_resume(session, peer);
}

void session_resume(struct session *session, struct peer *peer)
{
	if (session->peer)
		peer_close(session->peer);
	session->peer = peer;
	peer->session = session;
}

void session_lose_peer(struct session *session)
{
	session->peer = NULL;
}

bool session_holder_lives(struct session *session)
{
	if (session->holder.pid == 0)
		return false;
	if (is_running(&session->holder))
		return true;
	holder_died(session);
	return false;
}

void session_note_unit(struct session *session)
{
	if (!session->unit_due)
		return;
	session->unit_due = false;
	session->unit = unit_of(session->holder.pid, session->holder.pidfd);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *session_devices(const struct session *session)
{
	GPtrArray *devices = g_ptr_array_new();

	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);

		if (object->kind == OBJECT_DEVICE)
			g_ptr_array_add(devices, object->name);
	}
	g_ptr_array_sort(devices, compare_names);
	return devices;
}

/* Busy times */

void session_wait(struct session *session, struct peer *peer)
{
	g_queue_push_tail(&session->waiting, peer_ref(peer));
}

static void repeat_waiting(GQueue *waiting)
{
	struct peer *peer;

	while ((peer = g_queue_pop_head(waiting))) {
		peer_repeat_call(peer);
		peer_unref(peer);
	}
}

void session_set_idle(struct session *session)
{
	GQueue waiting = session->waiting;

	session->busy = false;
	g_queue_init(&session->waiting);
	if (session->death_untold) {
		session->death_untold = false;
		holder_died(session);
	}
	repeat_waiting(&waiting);
}

/* Life */

static struct session *session_make(struct server *server, const char *name, uid_t uid,
				    enum session_state state)
{
	struct session *session = g_new(struct session, 1);

	*session = (struct session){
		.server = server,
		.name = g_strdup(name),
		.uid = uid,
		.account = account_get(uid),
		.state = state,
		.since = g_get_monotonic_time(),
		.holder = {.pidfd = -1},
		.spaces = session_spaces_new(),
		.waiting = G_QUEUE_INIT,
	};
	session->account->sessions++;
	object_set_init(&session->objects, session->account);
	return session;
}

struct session *session_new(struct server *server, const char *name, uid_t uid, struct peer *peer)
{
	struct session *session = session_make(server, name, uid, SESSION_ACTIVE);

	set_holder(session, peer);
	server_add_session(server, session);
	keep_begin(session);
	log_notice(session, "session %s is new, held by process %d", name, (int)peer->pid);
	monitor_tell(session, "created");
	return session;
}

struct session *session_recover(struct server *server, struct replay *replay,
				struct journal *journal)
{
	struct session *session = session_make(server, replay->name, replay->uid, replay->state);

	session->since = replay->since;
	session->died = replay->died;
	session->holder.pid = replay->holder.pid;
	session->holder.pidfd = fd_take(&replay->holder.pidfd);
	session->unit = g_steal_pointer(&replay->unit);
	session->journal = journal;
	g_hash_table_unref(session->spaces);
	session->spaces = g_steal_pointer(&replay->spaces);
	object_set_move(&session->objects, &replay->objects);
	server_add_session(server, session);
	if (session->died == 0 && !is_running(&session->holder))
		session->died = SESSION_DIED_UNSEEN;
	session->unit_due =
		!session->unit; /* it is in the journal, unless an older daemon wrote it */
	session_note_unit(session);
	if (session->holder.pidfd >= 0)
		watch_holder(session); /* dead meanwhile: its pidfd is readable at once */
	else if (session->state != SESSION_ORPHANED)
		holder_died(session); /* its death was seen, but not the end of the work after it */
	else
		oldorphan_watch(session);
	return session;
}

struct session *session_unreadable(struct server *server, const char *name, struct journal *journal,
				   const char *problem)
{
	struct session *session = session_make(server, name, 0, SESSION_UNREADABLE);

	session->journal = journal;
	session->problem = g_strdup(problem);
	server_add_session(server, session);
	return session;
}

void session_free(struct session *session)
{
	if (session->peer)
		session->peer->session = NULL;
	clear_holder(session);
	oldorphan_forget(session);
	object_set_clear(&session->objects);
	session->account->sessions--;
	account_put(session->account);
	journal_free(session->journal);
	g_hash_table_unref(session->spaces);
	g_free(session->problem);
	g_free(session->unit);
	g_free(session->name);
	g_free(session);
}

void session_claim(struct session *session, struct peer *peer)
{
	set_holder(session, peer);
	session_set_state(session, SESSION_RESTORING);
	monitor_tell(session, "restoring");
}

void session_commit(struct session *session, gint64 *ret_died)
{
	*ret_died = 0;
	if (session->state == SESSION_ACTIVE)
		return;
	*ret_died = session->died;
	session->died = 0;
	g_hash_table_remove_all(session->spaces);
	session_set_state(session, SESSION_ACTIVE);
	monitor_tell(session, "active");
}

static void release_done(struct session *session)
{
	GQueue waiting = session->waiting;

	log_notice(session, "session %s is released", session->name);
	monitor_tell(session, "released");
	server_remove_session(session->server, session);
	session_free(session);
	repeat_waiting(&waiting);
}

void session_release(struct session *session)
{
	auto_fdlist fds = FDLIST_INIT;

	session_set_state(session, SESSION_RELEASING);
	oldorphan_forget(session);
	if (session->peer && session->peer->writer.fds)
		peer_close(session->peer); /* its answer would name descriptors closed here */
	/* In the order of storing, so a device is closed before what was stored after it. */
	object_set_take_all(&session->objects, &fds);
	keep_end(session, &fds, release_done);
}
