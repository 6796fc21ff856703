/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections, from the listening sockets to a peer: daemon/accept.h. */
#include "daemon/accept.h"

#include <errno.h>
#include <sys/socket.h>

#include "daemon/account.h"
#include "daemon/kernel.h"
#include "daemon/log.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/unwanted.h"

/* Connections, before a look at who is here already and has sent a request. */
#define ACCEPTED_AT_ONCE 2

static const struct timeval accept_pause = {.tv_usec = 100 * 1000};
static const struct timeval shortage_over = {.tv_sec = 2};

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
	int r;

	if (unwanted_close_if_given_up(socket))
		return 0;
	r = identify(socket, &identity);
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

/* The next one in the backlog. false: there is none, or no more can be had for now. */
static bool accept_next(struct server *server, int listener)
{
	int socket = kernel->accept(listener), r;

	if (socket == -ECONNABORTED || socket == -EINTR)
		return true;
	if (socket == -EAGAIN)
		return false;
	r = socket < 0 ? socket : admit(server, socket);
	if (r == 0)
		return true;
	if (socket >= 0)
		server->accepted = socket;
	pause_accepting(server, r);
	return false;
}

/*
 * The backlog is one for all users, and who is whose is seen here: turns (daemon/turn.h) are by user.
 * It is short (daemon/listen.c), and those who wait for room in it have it in the order they came.
 */
static void on_connection(evutil_socket_t listener, short events, void *data)
{
	(void)events;
	for (int i = 0; i < ACCEPTED_AT_ONCE && accept_next(data, listener); i++)
		;
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
	if (g_get_monotonic_time() - server->short_at >= shortage_over.tv_sec * G_USEC_PER_SEC) {
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

void accept_begin(struct server *server)
{
	server->listeners = g_ptr_array_new_with_free_func(listener_free);
	server->accepted = -1;
	server->accept_again = evtimer_new(server->base, on_accept_again, server);
}

void accept_no_more(struct server *server)
{
	set_accepting(server, false);
	event_del(server->accept_again);
}

void accept_end(struct server *server)
{
	if (server->accepted >= 0)
		turn_away_unknown(server->accepted);
	event_free(server->accept_again);
	g_ptr_array_unref(server->listeners);
}
