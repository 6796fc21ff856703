/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages into a connection, and one call at a time: daemon/peer.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "daemon/account.h"
#include "daemon/errand.h"
#include "daemon/log.h"
#include "daemon/peer-out.h"
#include "daemon/peer.h"
#include "daemon/server.h"

#define PARSED_AT_ONCE 4096 /* bytes, some 0.2 ms where each is an object of 60 */

gint64 peer_unfinished_usec = 60 * G_USEC_PER_SEC; /* that a message may take to come */

static bool is_idle(const struct peer *peer)
{
	return peer->socket >= 0 && !peer->call.method && !peer->parsing && !peer->writer.bytes &&
	       !peer->ending;
}

/* The connection is of no more use: says why, if it can, and ends it. */
static void end(struct peer *peer, const char *error, int number, const char *message)
{
	g_autofree char *who = peer_describe(peer);

	log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL, "%s: %s: connection closed", who,
		    message);
	peer->ending = peer->told = true;
	peer_fail(peer, error, number, "%s", message);
}

/* Does the call, or tells why the message is none (a sentence, freed here). */
static void begin_call(struct peer *peer, char *problem)
{
	bool is_with_socket = peer->got_socket;

	peer->got_socket = false;
	if (problem)
		end(peer, "ProtocolViolation", 0, problem);
	else if (is_with_socket)
		peer_fail(
			peer, "Refused", EINVAL,
			"a descriptor of the message is a socket. Its other end is another process's, "
			"which no restart keeps, so nothing of the message was taken: connect anew");
	else
		peer->server->call(peer);
	g_free(problem);
}

/* A long message, which takes longer to parse than others should wait. */
struct parsing {
	struct peer *peer; /* referenced */
	char *text;
	size_t size;
	struct call call; /* its descriptors are in the peer's */
	char *problem;
};

static void parse_in_thread(void *data)
{
	struct parsing *parsing = data;

	parsing->problem = call_parse(&parsing->call, parsing->text, parsing->size);
}

/* What took a thread to parse takes the loop its time, too: it has no turn by being parsed. */
static void begin_parsed(struct peer *peer, struct parsing *parsing)
{
	parsing->call.fds = peer->call.fds;
	parsing->call.begun = peer->call.begun;
	peer->call = parsing->call;
	if (parsing->problem) {
		begin_call(peer, parsing->problem);
		return;
	}
	peer->call.then = peer->server->call;
	peer_go_on_in_turn(peer);
}

static void on_parsed(void *data)
{
	struct parsing *parsing = data;
	struct peer *peer = parsing->peer;

	peer->parsing = false;
	if (peer->socket >= 0) {
		begin_parsed(peer, parsing);
	} else {
		call_clear(&parsing->call);
		g_free(parsing->problem);
	}
	free(parsing->text);
	g_free(parsing);
	peer_unref(peer);
}

static void parse(struct peer *peer, char *text, size_t size)
{
	struct parsing *parsing;

	if (size <= PARSED_AT_ONCE) {
		begin_call(peer, call_parse(&peer->call, text, size));
		free(text);
		return;
	}
	parsing = g_new(struct parsing, 1);
	*parsing = (struct parsing){.peer = peer_ref(peer), .text = text, .size = size};
	peer->parsing = true;
	errand_run_short(peer->account, parse_in_thread, on_parsed, parsing);
}

/* Takes the next message, if a whole one is there, and does its call. */
static bool begin_next_call(struct peer *peer)
{
	char *text;
	size_t size;

	g_assert(!peer->call.method && peer->call.fds.n == 0);
	if (frame_reader_take(&peer->reader, &text, &size, &peer->call.fds) <= 0)
		return false;
	peer_count_unfinished(peer);
	event_del(peer->overdue);
	peer->call.begun = g_get_monotonic_time();
	parse(peer, text, size);
	return true;
}

/*
 * A socket may be the other end of this very connection, or of one that is held in the same way by
 * another message. As long as the daemon has it, that one does not hang up, also when all who had it
 * are dead. This question takes no lock, and no driver or file system is asked (sk_getsockopt(),
 * net/core/sock.c).
 */
static bool is_socket(int fd)
{
	int domain;
	socklen_t size = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0;
}

/* Descriptors have come: all that there are, as they are with one message. None stays with a socket. */
static void drop_sockets(struct peer *peer)
{
	struct fdlist *fds = &peer->reader.fds;

	for (size_t i = 0; i < fds->n && !peer->got_socket; i++)
		peer->got_socket = is_socket(fds->fds[i]);
	if (peer->got_socket)
		fdlist_clear(fds);
}

static void take_in(struct peer *peer)
{
	if (peer->reader.fds.n > peer->unfinished.descriptors)
		drop_sockets(peer);
	peer_count_unfinished(peer);
}

static void receive(struct peer *peer)
{
	g_autofree char *quota = account_refuse_message(peer->account);
	int r;

	if (quota) {
		end(peer, "QuotaExceeded", EDQUOT, quota);
		return;
	}
	r = frame_reader_receive(&peer->reader, peer->socket);
	switch (r) {
	case 1:
		take_in(peer);
		return;
	case -EAGAIN:
		return;
	case -ENOBUFS:
		end(peer, "DescriptorsLost", EMFILE,
		    "the daemon could not take all descriptors of the message (its RLIMIT_NOFILE, or a "
		    "security module), so it took none: raise LimitNOFILE of vfio-cprd");
		return;
	case -EBADMSG:
		end(peer, "ProtocolViolation", 0,
		    "descriptors came in the middle of a message, or with more than one: wait for each "
		    "answer before a message with descriptors");
		return;
	case -EMSGSIZE:
		end(peer, "ProtocolViolation", EMSGSIZE, "the message is longer than 1 MiB");
		return;
	default: /* the end of the connection, or an error of it */
		peer_close(peer);
	}
}

/*
 * A monitor has said all it has to say. Its end is noticed here, since there may be no event for
 * long. Whatever it says more would never be answered; and unread it could hold the other end of
 * this connection, which would have no end then.
 */
static void listen_to_monitor(struct peer *peer)
{
	g_autofree char *who = peer_describe(peer);
	int r = peer->reader.size > 0 ? 1 : frame_reader_receive(&peer->reader, peer->socket);

	if (r == -EAGAIN)
		return;
	if (r == 1)
		log_limited(
			peer->uid, G_LOG_LEVEL_WARNING, NULL,
			"%s: a message came after Monitor, which has no end: connection closed. "
			"Other calls need another connection",
			who);
	peer_close(peer);
}

/* A call is under way, or its answer: more is not read yet, but a peer that is gone is noticed. */
static void listen_no_more(struct peer *peer)
{
	event_del(peer->readable);
	if (peer_hung_up(peer) && !peer->session)
		peer_close(peer);
}

/* A message in the making may not be a way around the limits. */
static void refuse_unfinished(struct peer *peer)
{
	g_autofree char *refusal = account_refuse_bytes(peer->account);

	if (!refusal && peer->unfinished.descriptors > 0)
		refusal = account_refuse_descriptors(peer->account, peer->server->descriptor_limit);
	if (refusal)
		end(peer, "QuotaExceeded", EDQUOT, refusal);
}

static void wait_for_the_rest(struct peer *peer)
{
	const struct timeval patience = {.tv_sec = peer_unfinished_usec / G_USEC_PER_SEC,
					 .tv_usec = peer_unfinished_usec % G_USEC_PER_SEC};

	refuse_unfinished(peer);
	if (is_idle(peer) && !event_pending(peer->overdue, EV_TIMEOUT, NULL))
		event_add(peer->overdue, &patience);
}

/* Whoever should send the rest may be dead, and what it has sent may be all that keeps this open. */
static void on_overdue(evutil_socket_t fd, short events, void *data)
{
	struct peer *peer = peer_ref(data);

	(void)fd;
	(void)events;
	if (is_idle(peer) && peer->unfinished.bytes > 0)
		end(peer, "ProtocolViolation", ETIMEDOUT,
		    "a message has begun and not come to its end for a minute: send each whole");
	peer_unref(peer);
}

/* The one call of a turn, if there is a whole one or it becomes whole by one receive. */
static void do_call(struct peer *peer)
{
	if (begin_next_call(peer))
		return;
	receive(peer);
	if (!is_idle(peer) || begin_next_call(peer))
		return;
	if (peer->unfinished.bytes > 0)
		wait_for_the_rest(peer);
	if (is_idle(peer) && !event_pending(peer->readable, EV_READ, NULL))
		event_add(peer->readable, NULL);
}

static void take_turn(void *data)
{
	struct peer *peer = peer_ref(data);

	if (peer->call.continues || peer->call.in_turn)
		peer_go_on(peer);
	else if (peer->monitoring)
		listen_to_monitor(peer); /* it said more at once */
	else if (is_idle(peer))
		do_call(peer);
	peer_unref(peer);
}

void peer_go_on_in_turn(struct peer *peer)
{
	struct turns *turns = peer->server->turns;

	if (peer->socket < 0)
		return;
	if (turn_take_now(turns, &peer->turn)) {
		peer_go_on(peer);
		return;
	}
	peer->call.in_turn = true;
	turn_wait(turns, &peer->turn);
}

static void on_readable(evutil_socket_t fd, short events, void *data)
{
	struct peer *peer = peer_ref(data);

	(void)fd;
	(void)events;
	if (peer->monitoring) {
		listen_to_monitor(peer);
	} else if (peer->turn.waits) {
		event_del(peer->readable); /* what has come is done first, also if it has hung up */
	} else if (!is_idle(peer)) {
		listen_no_more(peer);
	} else if (turn_take_now(peer->server->turns, &peer->turn)) {
		do_call(peer);
	} else {
		event_del(peer->readable);
		turn_wait(peer->server->turns, &peer->turn);
	}
	peer_unref(peer);
}

struct peer *peer_new(struct server *server, const struct peer_identity *identity)
{
	static const int on = 1;
	struct peer *peer = peer_make(server, identity);

	/* Out of band, a byte that is not asked for is dropped, and its descriptors closed, on the way. */
	setsockopt(peer->socket, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	turn_init(&peer->turn, peer->account, take_turn, peer);
	peer_out_begin(peer);
	peer->readable =
		event_new(server->base, peer->socket, EV_READ | EV_PERSIST, on_readable, peer);
	peer->overdue = evtimer_new(server->base, on_overdue, peer);
	event_add(peer->readable, NULL);
	return peer;
}
