/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A survey of all that a session holds, for its summary: which devices, and how many interrupts
 * wait. A session may have 65,536 descriptors, so it can be left and gone on
 * with, though the session has changed meanwhile.
 */
#ifndef DAEMON_SURVEY_H
#define DAEMON_SURVEY_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;

/*
 * What one turn of the loop may cost, some 0.2 ms: an object or a descriptor looked at costs 1. Others
 * wait for a turn of each user who keeps the daemon busy.
 */
#define SURVEY_COST_OF_TURN 1024

struct summary {
	bool is_known;	    /* somebody has looked */
	uint64_t pending;   /* interrupts, at most INT64_MAX */
	GPtrArray *devices; /* their names, or the first 8 KiB of them; NULL: none */
	size_t devices_bytes;
};

struct survey {
	uint64_t session;   /* the serial of which; 0: none has begun */
	uint64_t object;    /* the serial of the one to go on with */
	guint vector;	    /* and of its vectors */
	struct summary sum; /* so far */
};

/*
 * Begins a survey of the session or goes on with one, until *cost is SURVEY_COST_OF_TURN or, by one
 * call into the kernel, up to twice that. true: it is done, and session->summary has what was found.
 */
bool survey_on(struct survey *survey, struct session *session, unsigned int *cost);

/* Forgets what was found so far. */
void survey_clear(struct survey *survey);

void summary_clear(struct summary *summary);

#endif
