/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Listening, the sets of peers and sessions, limits, and the status for systemd: daemon/server.h. */
#include "daemon/server.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/fdstore.h"
#include "daemon/kernel.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/peer.h"
#include "daemon/session.h"
#include "daemon/unwanted.h"
#include "daemon/worker.h"

#define DESCRIPTORS_RESERVED 512 /* for connections, pidfds, and messages being received */

static const struct timeval accept_pause = {.tv_usec = 100 * 1000};
static const struct timeval stop_patience = {.tv_sec = 5};
static const struct timeval status_pause = {.tv_usec = 100 * 1000}; /* many changes, one line */

static guint session_hash(gconstpointer key)
{
	const struct session *session = key;

	return g_str_hash(session->name) + session->uid;
}

static gboolean session_equal(gconstpointer a, gconstpointer b)
{
	const struct session *x = a, *y = b;

	return x->uid == y->uid && strcmp(x->name, y->name) == 0;
}

/* Accepting */

static void set_accepting(struct server *server, bool accepting)
{
	for (guint i = 0; i < server->listeners->len; i++) {
		struct event *listener = g_ptr_array_index(server->listeners, i);

		if (accepting)
			event_add(listener, NULL);
		else
			event_del(listener);
	}
}

static void on_accept_again(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	set_accepting(data, true);
}

static void on_connection(evutil_socket_t listener, short events, void *data)
{
	struct server *server = data;
	struct peer *peer;
	int socket = kernel->accept(listener);

	(void)events;
	if (socket == -EAGAIN || socket == -ECONNABORTED || socket == -EINTR)
		return;
	if (socket < 0) {
		/* EMFILE, ENFILE, ENOMEM: those who wait in the backlog are served when it is over. */
		log_limited(RATELIMIT_NOBODY, G_LOG_LEVEL_WARNING, NULL,
			    "cannot accept a connection for now: %s", g_strerror(-socket));
		set_accepting(server, false);
		event_add(server->accept_again, &accept_pause);
		return;
	}
	peer = peer_new(server, socket);
	if (!peer)
		return;
	g_hash_table_add(server->peers, peer);
	if (account_has_many_connections(peer->account)) {
		log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL,
			    "uid %u has %u connections, and descriptors of %u messages are still "
			    "being closed: this connection is closed",
			    peer->uid, peer->account->connections, peer->account->closing);
		peer_close(peer);
	}
}

void server_listen(struct server *server, int socket)
{
	struct event *listener =
		event_new(server->base, socket, EV_READ | EV_PERSIST, on_connection, server);

	evutil_make_socket_nonblocking(socket);
	evutil_make_socket_closeonexec(socket);
	event_add(listener, NULL);
	g_ptr_array_add(server->listeners, listener);
}

static void listener_free(gpointer data)
{
	struct account *nobody = account_get(-1);
	int socket = event_get_fd(data);

	event_free(data);
	/* Those who wait in its backlog may have sent something already. */
	unwanted_close(nobody, &socket, 1);
	account_put(nobody);
}

/* Status */

const char *server_loss(const struct server *server)
{
	GHashTableIter iter;
	gpointer session;

	if (!fdstore_exists())
		return "there is no fd store of systemd (started by hand, or FileDescriptorStoreMax is 0): the "
		       "daemon's own death loses every session, and resets the devices whose VMM is dead "
		       "too";
	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &session, NULL))
		if (!((struct session *)session)->journal && !((struct session *)session)->busy)
			return "the journal of a session could not be stored with systemd: the daemon's own death "
			       "loses it; the daemon's log tells which and why";
	return NULL;
}

const char *server_warning(const struct server *server)
{
	const char *loss = server_loss(server);

	if (loss || fdstore_outlives_stop())
		return loss;
	return "systemd is older than 254: a restart or crash of the daemon loses nothing, but \"systemctl "
	       "stop vfio-cprd.service\" closes all that is held, and resets the devices whose VMM is dead";
}

size_t server_descriptors(const struct server *server)
{
	size_t n = 0;
	GHashTableIter iter;
	gpointer session;

	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &session, NULL))
		n += object_set_total(&((struct session *)session)->objects);
	return n;
}

unsigned int server_orphans(const struct server *server)
{
	unsigned int n = 0;
	GHashTableIter iter;
	gpointer session;

	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &session, NULL))
		n += session_visible_state(session) == SESSION_ORPHANED;
	return n;
}

char *server_describe_held(const struct server *server)
{
	unsigned int sessions = g_hash_table_size(server->sessions);
	size_t descriptors = server_descriptors(server);

	if (sessions == 0)
		return NULL;
	return g_strdup_printf("%u session%s, %zu descriptor%s", sessions, sessions == 1 ? "" : "s",
			       descriptors, descriptors == 1 ? "" : "s");
}

static void on_status(evutil_socket_t fd, short events, void *data)
{
	struct server *server = data;

	(void)fd;
	(void)events;
	notify_status(g_strdup_printf("%u sessions, %u orphaned, %zu descriptors held",
				      g_hash_table_size(server->sessions), server_orphans(server),
				      server_descriptors(server)));
}

void server_changed(struct server *server)
{
	if (!event_pending(server->status, EV_TIMEOUT, NULL))
		event_add(server->status, &status_pause);
}

/* Sessions */

struct session *server_find_session(const struct server *server, uid_t uid, const char *name)
{
	const struct session key = {.uid = uid, .name = (char *)name};

	return g_hash_table_lookup(server->sessions, &key);
}

struct session *server_search_session(const struct server *server, const struct peer *peer,
				      const char *name, bool *ret_many)
{
	struct session *found = server_find_session(server, peer->uid, name);
	GHashTableIter iter;
	gpointer item;

	*ret_many = false;
	if (found)
		return found;
	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &item, NULL)) {
		struct session *session = item;

		if (strcmp(session->name, name) != 0 || !peer_may_see(peer, session->uid))
			continue;
		if (found) {
			*ret_many = true;
			return NULL;
		}
		found = session;
	}
	return found;
}

void server_add_session(struct server *server, struct session *session)
{
	g_hash_table_add(server->sessions, session);
}

void server_remove_session(struct server *server, struct session *session)
{
	devices_drop_all(server, session);
	g_hash_table_remove(server->sessions, session);
}

/* Life */

struct server *server_new(struct event_base *base, void (*call)(struct peer *peer))
{
	struct server *server = g_new0(struct server, 1);
	struct rlimit files = {0};

	server->base = base;
	server->call = call;
	server->listeners = g_ptr_array_new_with_free_func(listener_free);
	server->peers = g_hash_table_new(NULL, NULL);
	server->monitors = g_hash_table_new(NULL, NULL);
	server->sessions = g_hash_table_new(session_hash, session_equal);
	server->devices = devices_new();
	server->accept_again = evtimer_new(base, on_accept_again, server);
	server->status = evtimer_new(base, on_status, server);
	getrlimit(RLIMIT_NOFILE, &files);
	account_limit_flight(files.rlim_cur);
	if (files.rlim_cur > DESCRIPTORS_RESERVED)
		server->descriptor_limit = files.rlim_cur - DESCRIPTORS_RESERVED;
	if (fdstore_exists())
		server->descriptor_limit /=
			2; /* what a journal holds is in flight, and counts too */
	return server;
}

static void stop_if_quiet(struct server *server)
{
	if (server->stopping && g_hash_table_size(server->peers) == 0)
		event_base_loopbreak(server->base);
}

void server_add_monitor(struct server *server, struct peer *peer)
{
	g_hash_table_add(server->monitors, peer);
}

void server_remove_peer(struct server *server, struct peer *peer)
{
	g_hash_table_remove(server->peers, peer);
	g_hash_table_remove(server->monitors, peer);
	stop_if_quiet(server);
}

static void on_stop_deadline(evutil_socket_t fd, short events, void *data)
{
	struct server *server = data;

	(void)fd;
	(void)events;
	log_warning(NULL, "ends without waiting longer for %u connections that do not read",
		    g_hash_table_size(server->peers));
	event_base_loopbreak(server->base);
}

void server_stop(struct server *server)
{
	g_autoptr(GList) peers = g_hash_table_get_keys(server->peers);

	if (server->stopping)
		return;
	server->stopping = true;
	notify_stopping();
	set_accepting(server, false);
	event_del(server->accept_again);
	server->stop_deadline = evtimer_new(server->base, on_stop_deadline, server);
	event_add(server->stop_deadline, &stop_patience);
	for (GList *item = peers; item; item = item->next) {
		struct peer *peer = item->data;

		/* A call under way is answered first. */
		if ((peer->call.method && !peer->monitoring) || peer->writer.bytes)
			peer->ending = true;
		else
			peer_close(peer);
	}
	stop_if_quiet(server);
}

void server_free(struct server *server)
{
	g_autoptr(GList) peers = g_hash_table_get_keys(server->peers);
	g_autoptr(GList) sessions = NULL;

	for (GList *item = peers; item; item = item->next)
		peer_close(item->data);
	/* The work under way is on sessions, and may end some. */
	worker_drain();
	sessions = g_hash_table_get_keys(server->sessions);
	for (GList *item = sessions; item; item = item->next)
		session_free(item->data);
	g_hash_table_unref(server->peers);
	g_hash_table_unref(server->monitors);
	g_hash_table_unref(server->sessions);
	g_hash_table_unref(server->devices);
	g_ptr_array_unref(server->listeners);
	event_free(server->accept_again);
	event_free(server->status);
	if (server->stop_deadline)
		event_free(server->stop_deadline);
	g_free(server);
}
