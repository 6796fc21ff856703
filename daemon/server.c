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
#include "daemon/namehash.h"
#include "daemon/notify.h"
#include "daemon/owed.h"
#include "daemon/peer.h"
#include "daemon/session.h"
#include "daemon/turn.h"
#include "daemon/unread.h"
#include "daemon/unwanted.h"
#include "daemon/worker.h"

/* Of RLIMIT_NOFILE, for connections, pidfds, and messages being received: so much, and one in so many. */
#define RESERVED_MIN   512
#define RESERVED_SHARE 8
/* A connection is two descriptors, and a message being received may be many. */
#define DESCRIPTORS_PER_CONNECTION 4

static const struct timeval shortage_over = {.tv_sec = 2};
static const struct timeval accept_pause = {.tv_usec = 100 * 1000};
static const struct timeval stop_patience = {.tv_sec = 5};
static const struct timeval status_pause = {.tv_usec = 100 * 1000}; /* many changes, one line */

static guint session_hash(gconstpointer key)
{
	const struct session *session = key;

	return namehash(session->name) + session->uid;
}

static gboolean session_equal(gconstpointer a, gconstpointer b)
{
	const struct session *x = a, *y = b;

	return x->uid == y->uid && strcmp(x->name, y->name) == 0;
}

static gint compare_serials(gconstpointer a, gconstpointer b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
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

/*
 * EMFILE, ENFILE, ENOMEM: who waits in the backlog is served when it is over, and so is one who is
 * accepted already (server->accepted). It may come and go for long, and is told once.
 */
static void pause_accepting(struct server *server, int error)
{
	server->short_at = g_get_monotonic_time();
	if (server->short_since == 0) {
		server->short_since = server->short_at;
		log_warning(NULL, "cannot accept a connection for now: %s", g_strerror(-error));
	}
	set_accepting(server, false);
	event_add(server->accept_again, &accept_pause);
}

static bool is_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS;
}

/* Who it is. 0, or -errno: the identity has the socket and the account all the same. */
static int identify(int socket, struct peer_identity *ret_identity)
{
	struct ucred credentials = {.uid = -1};
	socklen_t length = sizeof(credentials);
	int r = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length);

	*ret_identity = (struct peer_identity){
		.socket = socket,
		.pidfd = -1,
		.pid = credentials.pid,
		.account = account_get(credentials.uid),
	};
	return r < 0 ? -errno : 0;
}

/* It is not served: whatever it has sent is closed, in its user's name. */
static void turn_away(const struct peer_identity *identity)
{
	unwanted_close_socket(identity->account, identity->socket);
	account_put(identity->account);
}

/* Why it cannot be a peer, a sentence to g_free(); NULL if it can, and if it has gone already. */
static char *refuse(const struct peer_identity *identity, int error)
{
	if (error == 0)
		return account_refuse_connection(identity->account);
	if (error == -ESRCH || error == -EINVAL)
		return NULL;
	return g_strdup_printf("process %d cannot be identified: %s", (int)identity->pid,
			       g_strerror(-error));
}

/* Makes it a peer, or refuses it. -errno: it has to wait for what the kernel is short of. */
static int admit(struct server *server, int socket)
{
	g_autofree char *refusal = NULL;
	struct peer_identity identity;
	int r = identify(socket, &identity);

	refusal = refuse(&identity, r);
	if (r == 0 && !refusal) {
		r = identity.pidfd = kernel->peer_pidfd(socket, identity.pid);
		if (is_shortage(r)) {
			account_put(identity.account);
			return r;
		}
		if (r < 0)
			refusal = refuse(&identity, r);
	}
	if (r >= 0 && !refusal) {
		g_hash_table_add(server->peers, peer_new(server, &identity));
		return 0;
	}
	if (refusal)
		log_limited(identity.account->uid, G_LOG_LEVEL_WARNING, NULL,
			    "%s: this connection is closed", refusal);
	turn_away(&identity);
	return 0;
}

static void on_connection(evutil_socket_t listener, short events, void *data)
{
	struct server *server = data;
	int socket = kernel->accept(listener), r;

	(void)events;
	if (socket == -EAGAIN || socket == -ECONNABORTED || socket == -EINTR)
		return;
	r = socket < 0 ? socket : admit(server, socket);
	if (r == 0)
		return;
	if (socket >= 0)
		server->accepted = socket;
	pause_accepting(server, r);
}

static void end_shortage(struct server *server)
{
	gint64 usec = server->short_at - server->short_since;

	server->short_since = 0;
	log_notice(NULL, "accepts connections again, after %.1f s", (double)usec / G_USEC_PER_SEC);
}

/* Tries again; if that went well for a while, it is over. */
static void on_accept_again(evutil_socket_t fd, short events, void *data)
{
	struct server *server = data;
	int r = server->accepted >= 0 ? admit(server, server->accepted) : 0;

	(void)fd;
	(void)events;
	if (r < 0) {
		pause_accepting(server, r);
		return;
	}
	server->accepted = -1;
	set_accepting(server, true);
	if (g_get_monotonic_time() - server->short_at >= (shortage_over.tv_sec * G_USEC_PER_SEC)) {
		end_shortage(server);
		return;
	}
	event_add(server->accept_again, &shortage_over);
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

/* Who waits in a backlog, or was accepted and is no peer yet, may have sent something already. */
static void turn_away_unknown(int socket)
{
	struct account *nobody = account_get(-1);

	unwanted_close(nobody, &socket, 1);
	account_put(nobody);
}

static void listener_free(gpointer data)
{
	int socket = event_get_fd(data);

	event_free(data);
	turn_away_unknown(socket);
}

/* Status */

/* One that is being released has nothing to lose. */
static bool session_is_unkept(const struct session *session)
{
	return !session->journal && !session->busy && session->state != SESSION_RELEASING;
}

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
		if (session_is_unkept(session))
			return "the journal of a session could not be stored with systemd: the daemon's own death "
			       "loses it; the daemon's log tells which and why";
	return NULL;
}

char *server_warning(const struct server *server, uid_t viewer)
{
	const char *loss = server_loss(server);
	char *owed = loss && !fdstore_exists() ? NULL : owed_warning(viewer);

	if (owed)
		return owed;
	if (loss || fdstore_outlives_stop())
		return g_strdup(loss);
	return g_strdup(
		"systemd is older than 254: a restart or crash of the daemon loses nothing, but \"systemctl "
		"stop vfio-cprd.service\" closes all that is held, and resets the devices whose VMM is dead");
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

struct session *server_next_session(const struct server *server, const struct peer *peer,
				    uint64_t serial)
{
	GTreeNode *node = g_tree_lower_bound(server->by_serial, &serial);

	for (; node; node = g_tree_node_next(node)) {
		struct session *session = g_tree_node_value(node);

		if (peer_may_see(peer, session->uid))
			return session;
	}
	return NULL;
}

uint64_t server_next_serial(const struct server *server)
{
	GTreeNode *last = g_tree_node_last(server->by_serial);

	return last ? *(const uint64_t *)g_tree_node_key(last) + 1 : 0;
}

void server_add_session(struct server *server, struct session *session)
{
	g_hash_table_add(server->sessions, session);
	g_tree_insert(server->by_serial, &session->serial, session);
}

void server_remove_session(struct server *server, struct session *session)
{
	devices_drop_all(server, session);
	g_hash_table_remove(server->sessions, session);
	g_tree_remove(server->by_serial, &session->serial);
}

/* Life */

static void set_limits(struct server *server)
{
	struct rlimit files = {0};
	size_t reserved;

	getrlimit(RLIMIT_NOFILE, &files);
	reserved = MAX(RESERVED_MIN, files.rlim_cur / RESERVED_SHARE);
	if (files.rlim_cur > reserved)
		server->descriptor_limit = files.rlim_cur - reserved;
	if (fdstore_exists())
		server->descriptor_limit /=
			2; /* what a journal holds is in flight, and counts too */
	account_limit_flight(files.rlim_cur);
	account_limit_connections(MIN(reserved, files.rlim_cur) / DESCRIPTORS_PER_CONNECTION);
}

struct server *server_new(struct event_base *base, void (*call)(struct peer *peer))
{
	struct server *server = g_new0(struct server, 1);

	owed_start(base);
	server->base = base;
	server->call = call;
	server->listeners = g_ptr_array_new_with_free_func(listener_free);
	server->peers = g_hash_table_new(NULL, NULL);
	server->monitors = g_hash_table_new(NULL, NULL);
	server->sessions = g_hash_table_new(session_hash, session_equal);
	server->by_serial = g_tree_new(compare_serials);
	server->devices = devices_new();
	server->turns = turns_new(base);
	unread_start(base);
	server->accepted = -1;
	server->accept_again = evtimer_new(base, on_accept_again, server);
	server->status = evtimer_new(base, on_status, server);
	set_limits(server);
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
	peer->account->monitors++;
}

void server_remove_peer(struct server *server, struct peer *peer)
{
	g_hash_table_remove(server->peers, peer);
	if (g_hash_table_remove(server->monitors, peer))
		peer->account->monitors--;
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
		if ((peer->call.method && !peer->monitoring) || peer->parsing || peer->writer.bytes)
			peer->ending = true;
		else
			peer_close(peer);
	}
	stop_if_quiet(server);
}

/* One that a worker is still at, as it hangs, is left to the end of the process. */
static void end_session(struct session *session)
{
	if (session->busy)
		session->server = NULL;
	else
		session_free(session);
}

bool server_free(struct server *server)
{
	g_autoptr(GList) peers = g_hash_table_get_keys(server->peers);
	g_autoptr(GList) sessions = NULL;

	for (GList *item = peers; item; item = item->next)
		peer_close(item->data);
	if (server->accepted >= 0)
		turn_away_unknown(server->accepted);
	unread_stop();
	/* The work under way is on sessions, and may end some. */
	if (!worker_drain())
		return false;
	sessions = g_hash_table_get_keys(server->sessions);
	for (GList *item = sessions; item; item = item->next)
		end_session(item->data);
	g_hash_table_unref(server->peers);
	g_hash_table_unref(server->monitors);
	g_hash_table_unref(server->sessions);
	g_tree_unref(server->by_serial);
	g_hash_table_unref(server->devices);
	g_ptr_array_unref(server->listeners);
	turns_free(server->turns);
	event_free(server->accept_again);
	event_free(server->status);
	if (server->stop_deadline)
		event_free(server->stop_deadline);
	g_free(server);
	return true;
}
