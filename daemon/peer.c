/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection, from its beginning to its end: daemon/peer.h. What comes in is peer-in.c's, and
 * what goes out peer-out.c's.
 */
#include "daemon/peer.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "daemon/account.h"
#include "daemon/pace.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/unwanted.h"

struct peer *peer_ref(struct peer *peer)
{
	peer->references++;
	return peer;
}

void peer_unref(struct peer *peer)
{
	if (--peer->references > 0)
		return;
	fd_close(&peer->pidfd);
	account_put(peer->account);
	g_free(peer->monitored_name);
	g_free(peer);
}

/* What it sent and nobody took. That may hang, so it is done in the user's name. */
static void close_unwanted(const int *fds, size_t n, void *owner)
{
	struct peer *peer = owner;

	unwanted_close(peer->account, fds, n);
}

struct peer *peer_make(struct server *server, const struct peer_identity *identity)
{
	struct peer *peer = g_new(struct peer, 1);

	*peer = (struct peer){
		.references = 1,
		.server = server,
		.socket = identity->socket,
		.uid = identity->account->uid,
		.account = identity->account,
		.pid = identity->pid,
		.pidfd = identity->pidfd,
		.call.fds = {.close_all = close_unwanted, .owner = peer},
		.events = G_QUEUE_INIT,
	};
	account_count_connections(peer->account, 1);
	object_set_init(&peer->staged, peer->account);
	frame_reader_init(&peer->reader, FRAME_MAX_BYTES, close_unwanted, peer);
	unread_init(&peer->unread, peer->account, peer->socket);
	return peer;
}

void peer_count_unfinished(struct peer *peer)
{
	size_t n = peer->reader.fds.n + peer->reader.next_fds.n;

	account_count_descriptors(peer->account,
				  (ssize_t)n - (ssize_t)peer->unfinished.descriptors);
	peer->account->bytes += peer->reader.size - peer->unfinished.bytes;
	peer->unfinished.descriptors = n;
	peer->unfinished.bytes = peer->reader.size;
}

void peer_close(struct peer *peer)
{
	if (peer->socket < 0)
		return;
	if (peer->session) {
		peer->session->peer = NULL; /* the session stays with its process */
		peer->session = NULL;
	}
	event_free(peer->readable);
	event_free(peer->writable);
	event_free(peer->again);
	event_free(peer->overdue);
	turn_cancel(&peer->turn);
	unread_close_socket(&peer->unread);
	peer->socket = -1;
	account_count_connections(peer->account, -1);
	call_clear(&peer->call);
	object_set_clear(&peer->staged);
	frame_reader_clear(&peer->reader);
	peer_count_unfinished(peer);
	frame_writer_clear(&peer->writer);
	g_queue_clear_full(&peer->events, free);
	server_remove_peer(peer->server, peer);
	peer_unref(peer);
}

bool peer_hung_up(const struct peer *peer)
{
	struct pollfd hangup = {.fd = peer->socket, .events = POLLRDHUP};

	return peer->socket < 0 || poll(&hangup, 1, 0) > 0;
}

char *peer_describe(const struct peer *peer)
{
	if (peer->pid == 0)
		return g_strdup_printf("a process of another PID namespace (uid %u)", peer->uid);
	return g_strdup_printf("process %d (uid %u)", (int)peer->pid, peer->uid);
}

bool peer_may_see(const struct peer *peer, uid_t uid)
{
	return peer->uid == 0 || peer->uid == uid;
}

void peer_go_on(struct peer *peer)
{
	void (*then)(struct peer *) = peer->call.then;

	if (peer->socket < 0 || !then)
		return;
	peer->call.then = NULL;
	then(peer);
}

bool peer_may_go(struct peer *peer, void (*then)(struct peer *peer))
{
	gint64 wait = 0;

	if (!peer->call.is_paced)
		wait = pace_next(peer->uid, g_get_monotonic_time(), &peer->call.is_paced);
	if (wait == 0)
		return true;
	peer->call.then = then;
	event_add(peer->again, &(struct timeval){.tv_sec = wait / G_USEC_PER_SEC,
						 .tv_usec = wait % G_USEC_PER_SEC});
	return false;
}
