/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One Varlink call: what its message says, and how far the daemon is with it. */
#ifndef DAEMON_CALL_H
#define DAEMON_CALL_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/fdlist.h"

struct look;
struct peer;

struct call {
	char *method; /* NULL: none under way */
	json_t *parameters;
	struct fdlist fds;   /* that came with it */
	gint64 begun;	     /* CLOCK_MONOTONIC, microseconds */
	bool more, oneway;   /* not both: what is to have no answer has no several */
	char *unknown_field; /* of the message, beside the parameters; NULL: all are known */
	void (*then)(struct peer *peer); /* goes on with it, when what it waits for is done */
	bool is_paced;			 /* it has its place: peer_may_go() */
	bool in_turn;			 /* then() is for turns of the peer's user */
	bool continues;			 /* answers are on their way, and there are more to come */
	size_t next;			 /* Fetch: where the next one begins */
	struct look *look;		 /* Store: at what it brought; NULL: none */
	void *state;			 /* of a call that takes several turns; the method's own */
	void (*free_state)(void *state);
	int error; /* Attach: -errno, to be answered when the session is gone */
};

/*
 * Parses a message (size bytes) into an empty call, whose descriptors may be there already. NULL, or
 * why it is no call, a sentence to g_free(); the call is empty then.
 */
char *call_parse(struct call *call, const char *text, size_t size);

/* The call is over: empties it, and closes what it has left of its descriptors. */
void call_clear(struct call *call);

#endif
