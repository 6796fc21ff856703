/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One exchange with systemd's fd store for a session: a new copy of its journal in, the old one out,
 * and descriptors closed after that. PID 1 may be slow, and a close may take seconds, so it is done
 * in a worker. The session is busy meanwhile: its objects do not change while they are written.
 */
#ifndef DAEMON_SWAP_H
#define DAEMON_SWAP_H

#include <glib.h>
#include <stdbool.h>

#include "common/fdlist.h"
#include "common/object.h"

struct journal;
struct object_set;
struct session;

struct swap {
	struct session *session;
	/*
	 * Both are called in the loop. The first when the exchange is over: the journals are the
	 * session's then, or to be freed. The second when the descriptors are closed, too, which may
	 * be much later, or never.
	 */
	void (*exchanged)(struct swap *swap);
	void (*done)(struct session *session);
	bool anew;     /* a new copy of the session is to be stored */
	bool drops;    /* the old journal is to go: if anew, once the new one is stored */
	bool is_again; /* PID 1 did not do it before: it is asked whether it listens first */
	/* An object that was taken out, whose removal the old journal gets if it stays. */
	enum object_kind removed_kind;
	char *removed;		    /* NULL: none */
	struct object_set *objects; /* to be closed at the end; taken; NULL: none */
	struct fdlist fds;	    /* to be closed after those, in this order; they are taken */
	struct journal *in;	    /* the new copy; NULL: none was made */
	bool in_is_left;	    /* it is not stored, and systemd may have some of it */
	bool old_is_gone;	    /* systemd has the old journal no longer */
	unsigned int n_gone;	    /* nor the first so many of session->debt.journals */
	int stored, dropped; /* 0, or -errno: why there is no new copy, or why something is left */
};

/* Begins it. It waits if the fd store has no room until others have made theirs. */
void swap_begin(struct swap *swap);

#endif
