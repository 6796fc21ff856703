/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a session: daemon/session.h. What it holds is in object.c, its spaces in space.c. */
#include "daemon/session.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/log.h"
#include "daemon/monitor.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/worker.h"

#define SESSION_NAME_MAX 64

static const char *const state_names[] = {
	[SESSION_ACTIVE] = "active",	   [SESSION_DETACHED] = "detached",
	[SESSION_ORPHANED] = "orphaned",   [SESSION_RESTORING] = "restoring",
	[SESSION_RELEASING] = "releasing",
};

const char *session_state_name(enum session_state state)
{
	return state_names[state];
}

bool session_name_is_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:._@-";
	size_t length = strlen(name);

	return length > 0 && length <= SESSION_NAME_MAX && strspn(name, allowed) == length;
}

static void set_state(struct session *session, enum session_state state)
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

/* The holder */

static void clear_holder(struct session *session)
{
	struct holder *holder = &session->holder;

	if (holder->death)
		event_free(holder->death);
	fd_close(&holder->pidfd);
	g_free(holder->unit);
	*holder = (struct holder){.pidfd = -1};
}

static void orphan(struct session *session);

static void on_death(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	orphan(data);
}

static void set_holder(struct session *session, struct peer *peer)
{
	struct holder *holder = &session->holder;

	clear_holder(session);
	holder->pid = peer->pid;
	holder->pidfd = fd_take(&peer->pidfd);
	holder->unit = peer_unit(peer);
	holder->death = event_new(session->server->base, holder->pidfd, EV_READ, on_death, session);
	event_add(holder->death, NULL);
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
	struct pollfd death = {.fd = session->holder.pidfd, .events = POLLIN};

	if (session->holder.pid == 0)
		return false;
	if (poll(&death, 1, 0) == 0)
		return true;
	orphan(session);
	return false;
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

static void set_idle(struct session *session)
{
	GQueue waiting = session->waiting;

	session->busy = false;
	g_queue_init(&session->waiting);
	repeat_waiting(&waiting);
}

/* Orphans */

/* One address space's part of the work; descriptors and table stay the session's, which is busy. */
struct orphan_task {
	char *name;
	int container, iommufd; /* one of them -1 */
	const struct table *table;
	struct space_status *status;
};

struct orphan_work {
	struct session *session;
	GArray *tasks;
	gint64 started;
};

static void orphan_in_thread(void *data)
{
	struct orphan_work *work = data;

	for (guint i = 0; i < work->tasks->len; i++) {
		struct orphan_task *task = &g_array_index(work->tasks, struct orphan_task, i);
		struct space_status *status = task->status;

		status->vaddr = task->container >= 0
					? space_invalidate(task->container, task->table,
							   &status->warning)
					: space_disown(task->iommufd, &status->warning);
	}
}

static void orphan_done(void *data)
{
	struct orphan_work *work = data;
	struct session *session = work->session;

	for (guint i = 0; i < work->tasks->len; i++) {
		struct orphan_task *task = &g_array_index(work->tasks, struct orphan_task, i);

		if (task->status->warning)
			log_warning(session, "session %s, address space %s: %s", session->name,
				    task->name, task->status->warning);
		g_hash_table_replace(session->spaces, task->name, task->status);
	}
	set_state(session, SESSION_ORPHANED);
	log_notice(session,
		   "session %s is orphaned: its holder died; %zu descriptors are held, its %u address "
		   "spaces were settled in %" G_GINT64_FORMAT " us",
		   session->name, object_set_total(&session->objects), work->tasks->len,
		   g_get_monotonic_time() - work->started);
	monitor_tell(session, "orphaned");
	g_array_unref(work->tasks);
	g_free(work);
	set_idle(session);
}

static void add_task(GArray *tasks, const struct session *session, const struct object *object)
{
	int fd = g_array_index(object->fds, int, 0);
	const struct object *table = object_set_find(&session->objects, OBJECT_TABLE, object->name);
	struct orphan_task task = {
		.name = g_strdup(object->name),
		.container = object->kind == OBJECT_CONTAINER ? fd : -1,
		.iommufd = object->kind == OBJECT_IOMMUFD ? fd : -1,
		.table = table ? &table->table : NULL,
		.status = g_new0(struct space_status, 1),
	};

	g_array_append_val(tasks, task);
}

/* The holder has died: every close() of it has run. What it held goes on; settle its addresses. */
static void orphan(struct session *session)
{
	struct orphan_work *work;

	log_debug(session, "session %s: holder %d died", session->name, (int)session->holder.pid);
	clear_holder(session);
	if (session->peer)
		/* A child of the dead process may have its socket, and an answer may be on its way. */
		peer_close(session->peer);
	if (session->state == SESSION_RELEASING)
		return;
	if (session->objects.objects->len == 0) {
		session_release(session);
		return;
	}
	work = g_new(struct orphan_work, 1);
	*work = (struct orphan_work){
		.session = session,
		.tasks = g_array_new(FALSE, FALSE, sizeof(struct orphan_task)),
		.started = g_get_monotonic_time(),
	};
	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);

		if (object->kind == OBJECT_CONTAINER || object->kind == OBJECT_IOMMUFD)
			add_task(work->tasks, session, object);
	}
	session->busy = true;
	worker_run(orphan_in_thread, orphan_done, work);
}

/* Life */

struct session *session_new(struct server *server, const char *name, uid_t uid, struct peer *peer)
{
	struct session *session = g_new(struct session, 1);

	*session = (struct session){
		.server = server,
		.name = g_strdup(name),
		.uid = uid,
		.state = SESSION_ACTIVE,
		.since = g_get_monotonic_time(),
		.holder = {.pidfd = -1},
		.spaces = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, space_status_free),
		.waiting = G_QUEUE_INIT,
	};
	object_set_init(&session->objects);
	set_holder(session, peer);
	server_add_session(server, session);
	log_notice(session, "session %s is new, held by process %d", name, (int)peer->pid);
	monitor_tell(session, "created");
	return session;
}

void session_free(struct session *session)
{
	if (session->peer)
		session->peer->session = NULL;
	clear_holder(session);
	object_set_clear(&session->objects);
	g_hash_table_unref(session->spaces);
	g_free(session->name);
	g_free(session);
}

void session_claim(struct session *session, struct peer *peer)
{
	set_holder(session, peer);
	set_state(session, SESSION_RESTORING);
	log_notice(session, "session %s is claimed by process %d", session->name, (int)peer->pid);
	monitor_tell(session, "restoring");
}

void session_commit(struct session *session)
{
	if (session->state == SESSION_ACTIVE)
		return;
	g_hash_table_remove_all(session->spaces);
	set_state(session, SESSION_ACTIVE);
	monitor_tell(session, "active");
}

static void release_done(void *data)
{
	struct session *session = data;
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

	set_state(session, SESSION_RELEASING);
	session->busy = true;
	if (session->peer && session->peer->writer.fds)
		peer_close(session->peer); /* its answer would name descriptors closed here */
	/* In the order of storing, so a device is closed before what was stored after it. */
	object_set_take_all(&session->objects, &fds);
	worker_close_then(fds.fds, fds.n, release_done, session);
	for (size_t i = 0; i < fds.n; i++)
		fds.fds[i] = -1;
}
