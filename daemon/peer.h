/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A peer: one connection, the process behind it, and the one call it has under way. The next
 * message is read only when the answer is out, so a peer that does not read costs one answer, and
 * is cut off in the end.
 */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

#include <event2/event.h>
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/frame.h"
#include "daemon/call.h"
#include "daemon/object.h"
#include "daemon/turn.h"
#include "daemon/unread.h"

struct account;
struct server;
struct session;

struct peer {
	unsigned int references;
	struct server *server;
	int socket; /* -1: closed */
	uid_t uid;
	struct account *account; /* of that user */
	pid_t pid;		 /* 0: it is in a PID namespace that the daemon does not see */
	int pidfd;		 /* of the process that connected; -1: the session has it */
	struct session *session; /* attached over this connection, or NULL */
	struct call call;
	bool parsing;		  /* the next one, in a thread */
	struct object_set staged; /* stored with more to come */
	bool ending;		  /* to be closed once the answer is out */
	bool told;		  /* why it is ending has been logged */
	struct frame_reader reader;
	struct {
		size_t descriptors, bytes;
	} unfinished;	 /* messages that are not whole yet, as counted for the user */
	bool got_socket; /* with the message that is not whole yet, or is being parsed */
	struct frame_writer writer;
	int outgoing[FRAME_MAX_FDS]; /* copied from the session for the answer being written */
	struct unread unread;	     /* descriptors of answers that it has not received */
	struct turn turn;	     /* for its next call, or the next answer of several */
	struct event *readable, *writable;
	struct event *again;   /* the end of a pause */
	struct event *overdue; /* the rest of a message */
	gint64 pause,
		paused; /* how long the next one is (0: there was none), since when there are; us */
	/* Monitor: events not yet sent, of strings; and of which session (NULL: all it may see). */
	bool monitoring;
	char *monitored_name;
	uid_t monitored_uid;
	uint64_t present, present_end; /* serials of sessions that it is still to be told of */
	GQueue events;
	size_t events_bytes;
};

extern gint64 peer_unfinished_usec; /* how long a message may take to come; a test has less */

/* Who has connected. All of it is the peer's once there is one. */
struct peer_identity {
	int socket, pidfd;
	pid_t pid;
	struct account *account; /* referenced */
};

/* peer-in.c: a new peer, which is listened to. */
struct peer *peer_new(struct server *server, const struct peer_identity *identity);
/* For peer-in.c: its memory, without any events. And what it leaves unfinished goes to its account. */
struct peer *peer_make(struct server *server, const struct peer_identity *identity);
void peer_count_unfinished(struct peer *peer);

struct peer *peer_ref(struct peer *peer);
void peer_unref(struct peer *peer);

/* Closes the connection; what it had staged is closed, its session stays. */
void peer_close(struct peer *peer);

/* Whether the other end has hung up, noticed or not. */
bool peer_hung_up(const struct peer *peer);

/* "process 12 (uid 34)", or that it has no number; to g_free(). */
char *peer_describe(const struct peer *peer);

/* Whether it may see and end what uid owns. Nobody else decides that. */
bool peer_may_see(const struct peer *peer, uid_t uid);

/* What the call that is under way waited for is done: does its call.then, if it is still there. */
void peer_go_on(struct peer *peer);

/*
 * The same when it is its user's turn, at once if the user has had none lately: for a piece of work
 * that takes as long as a call may.
 */
void peer_go_on_in_turn(struct peer *peer);

/*
 * For a call that makes PID 1 work (daemon/pace.h): whether the user's pace allows it now. false: it
 * goes on with then(peer) when it does, once for each call.
 */
bool peer_may_go(struct peer *peer, void (*then)(struct peer *peer));

/*
 * The answer to the call under way; parameters are consumed. fds (in peer->outgoing) are the
 * session's own: who closes those must first close this peer if its answer is not out.
 */
void peer_reply(struct peer *peer, json_t *parameters, const int *fds, size_t n_fds);

/*
 * The same for an answer that was put into words piece by piece, as it is long: the text of the
 * parameters; NULL: it could not be.
 */
void peer_reply_text(struct peer *peer, const char *parameters);

/*
 * One of several answers to a call with more, not the last: when it is out then(peer) goes on, after
 * whatever other peers want meanwhile.
 */
void peer_reply_more(struct peer *peer, json_t *parameters, const int *fds, size_t n_fds,
		     void (*then)(struct peer *peer));

/* Answers the call with an error, by its full name. For refusal.c, which logs it: call those below. */
void peer_answer_error(struct peer *peer, const char *name, json_t *parameters);

/* An error of the interface of the call under way. error: its name; number: an errno or 0. */
void peer_fail(struct peer *peer, const char *error, int number, const char *format, ...)
	G_GNUC_PRINTF(4, 5);

/* org.varlink.service.InvalidParameter */
void peer_invalid(struct peer *peer, const char *parameter, const char *message);

/* org.varlink.service.PermissionDenied: the call is on what belongs to another user. */
void peer_forbid(struct peer *peer, uid_t owner);

/*
 * org.varlink.service.MethodNotFound or InterfaceNotFound. what: "method" or "interface"; its name,
 * of so many bytes, is told back as far as it makes sense.
 */
void peer_unknown(struct peer *peer, const char *what, const char *name, size_t length);

/* An error of org.varlink.service; parameters are consumed. */
void peer_fail_service(struct peer *peer, const char *error, json_t *parameters);

/* Queues one answer of a call with more (a monitor's event); json is consumed. */
void peer_stream(struct peer *peer, json_t *parameters);

#endif
