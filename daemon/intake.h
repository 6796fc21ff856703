/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A batch of objects on its way into a session, which is busy meanwhile. There may be tens of
 * thousands: so they are looked through, kept and taken some at a time, each time in a turn of their
 * user's (daemon/methods-intake.c).
 */
#ifndef DAEMON_INTAKE_H
#define DAEMON_INTAKE_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/object.h"
#include "daemon/turn.h"

struct session;

struct intake {
	struct session *session;
	uid_t uid;		   /* whose peer stores */
	struct object_set objects; /* the batch; of what is taken already, no more than the place */
	struct object_set missing; /* of it, what the session lacks, if that is not all of it */
	struct object_cursor cursor;	     /* how far the step has come */
	void (*step)(struct intake *intake); /* the next part; NULL: nothing is left to do */
	struct turn turn;
	bool overlaps; /* some of it is held already */
	bool is_moved; /* objects up to the cursor are another set's */
	/* What came of it */
	const char *refused; /* the error's name; NULL: it is not refused */
	char *why;	     /* a sentence */
	int error; /* positive; or, without a refusal, why it could not be kept, -errno; 0: it is in */
	bool again; /* the journal was written anew for it */
};

/* Takes the objects over, of which the set has none then. */
struct intake *intake_new(struct session *session, uid_t uid, struct object_set *objects);

/* Whether it is under way: the session is busy with that alone. NULL is not. */
bool intake_is_under_way(const struct intake *intake);

/* Closes what has not been taken. NULL is none. */
void intake_free(struct intake *intake);

#endif
