/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sets of peers and sessions, limits, and the status for systemd: daemon/server.h. */
#include "daemon/server.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/accept.h"
#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/fdstore.h"
#include "daemon/log.h"
#include "daemon/namehash.h"
#include "daemon/notify.h"
#include "daemon/owed.h"
#include "daemon/peer.h"
#include "daemon/session.h"
#include "daemon/turn.h"
#include "daemon/unread.h"
#include "daemon/worker.h"

/* Of RLIMIT_NOFILE, for connections, pidfds, and messages being received: so much, and one in so many. */
#define RESERVED_MIN   512
#define RESERVED_SHARE 8
/* A connection is two descriptors, and a message being received may be many. */
#define DESCRIPTORS_PER_CONNECTION 4

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
	if (fdstore_is_gone())
		return fdstore_trouble();
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
	if (!loss)
		loss = fdstore_trouble();
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
	gpointer item;

	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &item, NULL))
		n += session_descriptors(item);
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
	server->peers = g_hash_table_new(NULL, NULL);
	server->monitors = g_hash_table_new(NULL, NULL);
	server->sessions = g_hash_table_new(session_hash, session_equal);
	server->by_serial = g_tree_new(compare_serials);
	server->devices = devices_new();
	server->turns = turns_new(base);
	unread_start(base);
	accept_begin(server);
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
	accept_no_more(server);
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
	accept_end(server);
	unread_stop();
	/* The work under way is on sessions, and may end some, or begin more. */
	if (!worker_drain())
		return false;
	worker_wait_for_hanging();
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
	turns_free(server->turns);
	event_free(server->status);
	if (server->stop_deadline)
		event_free(server->stop_deadline);
	g_free(server);
	return true;
}
