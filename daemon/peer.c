/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection: messages in, one call at a time, answers out. The contract: daemon/peer.h. */
#include "daemon/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/account.h"
#include "daemon/kernel.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/unwanted.h"

/* A peer that leaves an answer unread for so long is cut off. */
static const struct timeval write_timeout = {.tv_sec = 5};
static const struct timeval at_once = {0};

#define EVENTS_MAX_BYTES (256 * 1024) /* that a monitor may leave unread */

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

/* Keeps what a user leaves in unfinished messages in its account. */
static void count_unfinished(struct peer *peer)
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
	event_free(peer->next);
	unwanted_close_socket(peer->account, peer->socket);
	peer->socket = -1;
	peer->account->connections--;
	call_clear(&peer->call);
	object_set_clear(&peer->staged);
	frame_reader_clear(&peer->reader);
	count_unfinished(peer);
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

bool peer_may_see(const struct peer *peer, uid_t uid)
{
	return peer->uid == 0 || peer->uid == uid;
}

/* Out */

static bool is_idle(const struct peer *peer)
{
	return peer->socket >= 0 && !peer->call.method && !peer->writer.bytes && !peer->ending;
}

/* The answer is out: goes on with what has come meanwhile. */
static void read_on(struct peer *peer)
{
	if (!event_pending(peer->readable, EV_READ, NULL))
		event_add(peer->readable, NULL);
	if (peer->reader.size > 0)
		event_active(peer->readable, EV_READ, 0);
}

static void flush(struct peer *peer)
{
	for (;;) {
		int r;

		if (!peer->writer.bytes) {
			char *next = g_queue_pop_head(&peer->events);

			if (!next)
				break;
			peer->events_bytes -= strlen(next);
			frame_writer_set(&peer->writer, next, NULL, 0);
		}
		r = frame_writer_send(&peer->writer, peer->socket);
		if (r < 0) {
			peer_close(peer);
			return;
		}
		if (r == 0) {
			event_add(peer->writable, &write_timeout);
			return;
		}
		frame_writer_clear(&peer->writer);
	}
	if (peer->call.continues)
		event_add(peer->next, &at_once);
	else if (peer->ending)
		peer_close(peer);
	else
		read_on(peer);
}

static void on_writable(evutil_socket_t fd, short events, void *data)
{
	struct peer *peer = data;

	(void)fd;
	if (events & EV_TIMEOUT) {
		log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL,
			    "process %d (uid %u) leaves its answer unread: cut off", (int)peer->pid,
			    peer->uid);
		peer_close(peer);
		return;
	}
	flush(peer);
}

static void on_next(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	peer_go_on(data);
}

/* The text of an answer, to free(); parameters are consumed. */
static char *answer_text(const char *error, json_t *parameters, bool continues)
{
	json_t *message;
	char *text;

	/* If the parameters could not be made, the answer goes without: somebody waits for it. */
	if (!parameters)
		parameters = json_object();
	message = json_pack("{s:s*, s:o}", "error", error, "parameters", parameters);
	if (continues)
		json_object_set_new(message, "continues", json_true());
	text = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	return text;
}

/* Sends {"parameters": ...} or an error, and ends the call. */
static void answer(struct peer *peer, const char *error, json_t *parameters, const int *fds,
		   size_t n_fds)
{
	char *text = answer_text(error, parameters, false);
	bool oneway = peer->call.oneway;

	call_clear(&peer->call);
	if (oneway || peer->socket < 0) {
		free(text);
		if (peer->socket >= 0 && peer->ending)
			peer_close(peer);
		else if (peer->socket >= 0)
			read_on(peer);
		return;
	}
	frame_writer_set(&peer->writer, text, fds, n_fds);
	flush(peer);
}

void peer_reply(struct peer *peer, json_t *parameters, const int *fds, size_t n_fds)
{
	g_autofree char *method = g_steal_pointer(&peer->call.method);
	gint64 begun = peer->call.begun;

	peer_ref(peer);
	answer(peer, NULL, parameters, fds, n_fds);
	/* After the answer, which a VM may wait for. Calls that are refused: refusal.c. */
	if (method && log_is_debugging())
		log_debug(NULL, "process %d (uid %u): %s done in %" PRId64 " us", (int)peer->pid,
			  peer->uid, method, g_get_monotonic_time() - begun);
	peer_unref(peer);
}

void peer_reply_more(struct peer *peer, json_t *parameters, const int *fds, size_t n_fds,
		     void (*then)(struct peer *peer))
{
	peer->call.continues = true;
	peer->call.then = then;
	frame_writer_set(&peer->writer, answer_text(NULL, parameters, true), fds, n_fds);
	flush(peer);
}

void peer_answer_error(struct peer *peer, const char *name, json_t *parameters)
{
	answer(peer, name, parameters, NULL, 0);
}

void peer_stream(struct peer *peer, json_t *parameters)
{
	char *text = answer_text(NULL, parameters, true);

	peer->events_bytes += strlen(text);
	g_queue_push_tail(&peer->events, text);
	if (peer->events_bytes > EVENTS_MAX_BYTES) {
		log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL,
			    "process %d (uid %u) does not read its events: cut off", (int)peer->pid,
			    peer->uid);
		peer->ending = true;
		event_active(peer->writable, EV_TIMEOUT, 0);
		return;
	}
	if (!peer->writer.bytes)
		flush(peer);
}

/* In */

/* The connection is of no more use: says why, if it can, and ends it. */
static void end(struct peer *peer, const char *error, int number, const char *message)
{
	log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL,
		    "process %d (uid %u): %s: connection closed", (int)peer->pid, peer->uid,
		    message);
	peer->ending = true;
	peer_fail(peer, error, number, "%s", message);
}

/* Takes the next message, if a whole one is there, and does its call. */
static bool begin_next_call(struct peer *peer)
{
	g_autofree char *problem = NULL;
	char *text;
	size_t size;

	g_assert(!peer->call.method && peer->call.fds.n == 0);
	if (frame_reader_take(&peer->reader, &text, &size, &peer->call.fds) <= 0)
		return false;
	count_unfinished(peer);
	peer->call.begun = g_get_monotonic_time();
	problem = call_parse(&peer->call, text, size);
	free(text);
	if (problem)
		end(peer, "ProtocolViolation", 0, problem);
	else
		peer->server->call(peer);
	return true;
}

void peer_go_on(struct peer *peer)
{
	void (*then)(struct peer *) = peer->call.then;

	if (peer->socket < 0 || !then)
		return;
	peer->call.then = NULL;
	then(peer);
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
		count_unfinished(peer);
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
 * long; if it says more all the same, that stays unread and its end shows at the next event.
 */
static void listen_to_monitor(struct peer *peer)
{
	int r = peer->reader.size > 0 ? 1 : frame_reader_receive(&peer->reader, peer->socket);

	count_unfinished(peer);
	if (r == 1)
		event_del(peer->readable);
	else if (r != -EAGAIN)
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

static void do_calls(struct peer *peer)
{
	while (is_idle(peer) && begin_next_call(peer))
		;
	if (!is_idle(peer))
		return;
	receive(peer);
	while (is_idle(peer) && begin_next_call(peer))
		;
	if (is_idle(peer) && peer->unfinished.bytes > 0)
		refuse_unfinished(peer);
}

static void on_readable(evutil_socket_t fd, short events, void *data)
{
	struct peer *peer = peer_ref(data);

	(void)fd;
	(void)events;
	if (peer->monitoring)
		listen_to_monitor(peer);
	else if (is_idle(peer))
		do_calls(peer);
	else
		listen_no_more(peer);
	peer_unref(peer);
}

/* What it sent and nobody took. That may hang, so it is done in the user's name. */
static void close_unwanted(const int *fds, size_t n, void *owner)
{
	struct peer *peer = owner;

	unwanted_close(peer->account, fds, n);
}

struct peer *peer_new(struct server *server, int socket)
{
	static const int on = 1;
	struct ucred credentials = {.uid = -1};
	socklen_t length = sizeof(credentials);
	struct account *account;
	struct peer *peer;
	int pidfd = -1;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0)
		pidfd = kernel->peer_pidfd(socket, credentials.pid);
	account = account_get(credentials.uid);
	if (pidfd < 0) {
		unwanted_close_socket(account, socket);
		account_put(account);
		return NULL;
	}
	/* Out of band, a byte that is not asked for is dropped, and its descriptors closed, on the way. */
	setsockopt(socket, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	account->connections++;
	peer = g_new(struct peer, 1);
	*peer = (struct peer){
		.references = 1,
		.server = server,
		.socket = socket,
		.uid = credentials.uid,
		.account = account,
		.pid = credentials.pid,
		.pidfd = pidfd,
		.call.fds = {.close_all = close_unwanted, .owner = peer},
		.events = G_QUEUE_INIT,
	};
	object_set_init(&peer->staged, account);
	frame_reader_init(&peer->reader, FRAME_MAX_BYTES, close_unwanted, peer);
	peer->readable = event_new(server->base, socket, EV_READ | EV_PERSIST, on_readable, peer);
	peer->writable = event_new(server->base, socket, EV_WRITE, on_writable, peer);
	peer->next = evtimer_new(server->base, on_next, peer);
	event_add(peer->readable, NULL);
	return peer;
}
