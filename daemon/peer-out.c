/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers and events, out of a connection: daemon/peer.h, daemon/peer-out.h. */
#include "daemon/peer-out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

/* A peer that leaves an answer unread for so long is cut off. */
static const struct timeval write_timeout = {.tv_sec = 5};

/* Who has to wait until descriptors may be sent asks again after so long, and then ever more rarely. */
#define PAUSE_MIN_USEC 1000
#define PAUSE_MAX_USEC 128000

/* And fails in the end, if its own user has left unread what is in flight. */
#define PATIENCE_USEC (10 * G_USEC_PER_SEC)

#define EVENTS_MAX_BYTES (256 * 1024) /* that a monitor may leave unread */

/* The answer is out: goes on with what has come meanwhile. */
static void read_on(struct peer *peer)
{
	if (peer->reader.size > 0)
		turn_wait(peer->server->turns, &peer->turn);
	else if (!event_pending(peer->readable, EV_READ, NULL))
		event_add(peer->readable, NULL);
}

static void cut_off(struct peer *peer)
{
	g_autofree char *who = peer_describe(peer);

	if (!peer->told)
		log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL,
			    "%s leaves its answer unread: cut off", who);
	peer_close(peer);
}

static bool may_send(struct peer *peer)
{
	bool restores = peer->session && peer->session->state == SESSION_RESTORING;

	return !peer->writer.fds || unread_allows(&peer->unread, peer->writer.n_fds,
						  restores ? FLIGHT_CLAIM_ANSWER : FLIGHT_ANSWER);
}

static void flush(struct peer *peer);

/*
 * Its user's other connections have the room for descriptors, and may do nothing about it, as whoever
 * should read there may be waiting for this answer.
 */
static void give_up_sending(struct peer *peer)
{
	static const char text[] =
		"{\"error\":\"io.vfiocpr.Session.QuotaExceeded\",\"parameters\":{\"message\":"
		"\"too many descriptors are in answers that this user's other connections have "
		"not read: read those or close them, and ask again\",\"errno\":%d}}";
	g_autofree char *who = peer_describe(peer);

	log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL,
		    "%s has its answer refused: its user leaves %zu descriptors unread", who,
		    peer->account->unread);
	frame_writer_clear(&peer->writer);
	call_clear(&peer->call);
	peer->pause = 0;
	frame_writer_set(&peer->writer, g_strdup_printf(text, ETOOMANYREFS), NULL, 0);
	flush(peer);
}

/*
 * There are too many descriptors in flight for those of this answer. It waits: others may be the
 * reason. The peer itself is, if it leaves some unread and wants more.
 */
static void send_later(struct peer *peer)
{
	gint64 now = g_get_monotonic_time();

	if (peer->pause == 0) {
		peer->pause = PAUSE_MIN_USEC;
		peer->paused = now;
	}
	if (peer->unread.n > 0 &&
	    MAX(peer->paused, peer->unread.sent) + write_timeout.tv_sec * G_USEC_PER_SEC <= now) {
		cut_off(peer);
		return;
	}
	if (peer->account->unread > 0 && peer->paused + PATIENCE_USEC <= now) {
		give_up_sending(peer);
		return;
	}
	event_add(peer->again, &(struct timeval){.tv_usec = peer->pause});
	peer->pause = MIN(2 * peer->pause, PAUSE_MAX_USEC);
}

/* As frame_writer_send(), and -ETOOMANYREFS where that has not been tried. */
static int send_some(struct peer *peer)
{
	size_t n = peer->writer.fds ? peer->writer.n_fds : 0;
	int r = may_send(peer) ? frame_writer_send(&peer->writer, peer->socket) : -ETOOMANYREFS;

	if (n > 0 && !peer->writer.fds) {
		unread_add(&peer->unread, n);
		peer->pause = 0;
	}
	return r;
}

/* Puts the next event in the writer. false: there is none. */
static bool take_event(struct peer *peer)
{
	char *next = g_queue_pop_head(&peer->events);

	if (!next)
		return false;
	peer->events_bytes -= strlen(next);
	frame_writer_set(&peer->writer, next, NULL, 0);
	return true;
}

/* All is out. */
static void finish(struct peer *peer)
{
	if (peer->call.continues)
		turn_wait(peer->server->turns, &peer->turn);
	else if (peer->ending)
		peer_close(peer);
	else
		read_on(peer);
}

static void flush(struct peer *peer)
{
	while (peer->writer.bytes || take_event(peer)) {
		int r = send_some(peer);

		if (r == 1) {
			frame_writer_clear(&peer->writer);
			continue;
		}
		if (r == 0)
			event_add(peer->writable, &write_timeout);
		else if (r == -ETOOMANYREFS)
			send_later(peer);
		else
			peer_close(peer);
		return;
	}
	finish(peer);
}

static void on_writable(evutil_socket_t fd, short events, void *data)
{
	struct peer *peer = data;

	(void)fd;
	if (events & EV_TIMEOUT)
		cut_off(peer);
	else
		flush(peer);
}

/* A pause is over: before the answer is sent, or in the call itself. */
static void on_again(evutil_socket_t fd, short events, void *data)
{
	struct peer *peer = data;

	(void)fd;
	(void)events;
	if (peer->writer.bytes)
		flush(peer);
	else
		peer_go_on(peer);
}

void peer_out_begin(struct peer *peer)
{
	struct event_base *base = peer->server->base;

	peer->writable = event_new(base, peer->socket, EV_WRITE, on_writable, peer);
	peer->again = evtimer_new(base, on_again, peer);
}

/*
 * Instead of an answer that cannot be made: the effect may have been, and that must not be told. To
 * be free()d all the same: GLib has its memory from malloc().
 */
static char *answer_instead(void)
{
	return g_strdup(
		"{\"error\":\"io.vfiocpr.Session.KernelFailure\",\"parameters\":{\"message\":"
		"\"the call was done or refused, but the answer could not be put into words: that "
		"is a bug of vfio-cprd; ask for the state of things by List or Show\",\"errno\":74}}");
}

/* The text of an answer, to free(); parameters are consumed. NULL: it is no text. */
static char *answer_text(const char *error, json_t *parameters, bool continues)
{
	json_t *message = json_pack("{s:s*, s:o}", "error", error, "parameters", parameters);
	char *text;

	if (message && continues)
		json_object_set_new(message, "continues", json_true());
	text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	json_decref(message);
	return text;
}

/* No answer is wanted, or there is nobody to have it. */
static void go_without(struct peer *peer)
{
	call_clear(&peer->call);
	if (peer->socket >= 0 && peer->ending)
		peer_close(peer);
	else if (peer->socket >= 0)
		read_on(peer);
}

/* Sends the text (NULL: there was none to be had), and ends the call. */
static void send_answer(struct peer *peer, char *text, const int *fds, size_t n_fds)
{
	call_clear(&peer->call);
	if (text)
		frame_writer_set(&peer->writer, text, fds, n_fds);
	else
		frame_writer_set(&peer->writer, answer_instead(), NULL, 0);
	flush(peer);
}

static bool wants_none(const struct peer *peer)
{
	return peer->call.oneway || peer->socket < 0;
}

/* Sends {"parameters": ...} or an error, and ends the call. */
static void answer(struct peer *peer, const char *error, json_t *parameters, const int *fds,
		   size_t n_fds)
{
	if (wants_none(peer)) {
		json_decref(parameters);
		go_without(peer);
		return;
	}
	send_answer(peer, answer_text(error, parameters, false), fds, n_fds);
}

/* After the answer, which a VM may wait for. Calls that are refused: refusal.c. */
static void log_done(const struct peer *peer, const char *method, gint64 begun)
{
	g_autofree char *who = NULL;

	if (!method || !log_is_debugging())
		return;
	who = peer_describe(peer);
	log_debug(NULL, "%s: %s done in %" PRId64 " us", who, method,
		  g_get_monotonic_time() - begun);
}

void peer_reply(struct peer *peer, json_t *parameters, const int *fds, size_t n_fds)
{
	g_autofree char *method = g_steal_pointer(&peer->call.method);
	gint64 begun = peer->call.begun;

	peer_ref(peer);
	answer(peer, NULL, parameters, fds, n_fds);
	log_done(peer, method, begun);
	peer_unref(peer);
}

void peer_reply_text(struct peer *peer, const char *parameters)
{
	g_autofree char *method = g_steal_pointer(&peer->call.method);
	gint64 begun = peer->call.begun;
	char *text = NULL;

	peer_ref(peer);
	if (parameters && asprintf(&text, "{\"parameters\":%s}", parameters) < 0)
		text = NULL;
	if (wants_none(peer)) {
		free(text);
		go_without(peer);
	} else {
		send_answer(peer, text, NULL, 0);
	}
	log_done(peer, method, begun);
	peer_unref(peer);
}

void peer_reply_more(struct peer *peer, json_t *parameters, const int *fds, size_t n_fds,
		     void (*then)(struct peer *peer))
{
	char *text = answer_text(NULL, parameters, true);

	if (!text) {
		answer(peer, NULL, NULL, NULL, 0);
		return;
	}
	peer->call.continues = true;
	peer->call.then = then;
	frame_writer_set(&peer->writer, text, fds, n_fds);
	flush(peer);
}

void peer_answer_error(struct peer *peer, const char *name, json_t *parameters)
{
	answer(peer, name, parameters, NULL, 0);
}

void peer_stream(struct peer *peer, json_t *parameters)
{
	char *text = answer_text(NULL, parameters, true);

	if (!text) {
		text = answer_instead();
		peer->ending = true; /* as an error ends the call, and there is no other */
	}
	peer->events_bytes += strlen(text);
	g_queue_push_tail(&peer->events, text);
	if (peer->events_bytes > EVENTS_MAX_BYTES) {
		g_autofree char *who = peer_describe(peer);

		log_limited(peer->uid, G_LOG_LEVEL_WARNING, NULL,
			    "%s does not read its events: cut off", who);
		peer->ending = peer->told = true;
		event_active(peer->writable, EV_TIMEOUT, 0);
		return;
	}
	if (!peer->writer.bytes)
		flush(peer);
}
