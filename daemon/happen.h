/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens to a session is told here, and nowhere else: to the log, to the peers that watch,
 * and in the status line of the service.
 *
 * Whoever reads the log knows units and devices, and asks when the VM was gone and when it was
 * back: that is what each line names.
 */
#ifndef DAEMON_HAPPEN_H
#define DAEMON_HAPPEN_H

#include <glib.h>
#include <sys/types.h>

struct session;

enum happening {
	HAPPENED_CREATED,
	HAPPENED_ORPHANED, /* pid, spaces, usec */
	HAPPENED_AGED,	   /* it has been an orphan for long */
	HAPPENED_CLAIMED,
	HAPPENED_ACTIVE,    /* died */
	HAPPENED_CHANGED,   /* what it holds */
	HAPPENED_RELEASING, /* by */
	HAPPENED_RELEASED,
};

/* What the session itself does not tell; who does not say it leaves it 0. */
struct happening_detail {
	const char *by;	     /* who did it, as peer_describe() has it */
	pid_t pid;	     /* that held the orphan (0: not known) */
	unsigned int spaces; /* that were settled */
	gint64 usec;	     /* and how long that took */
	gint64 died;	     /* the death that it is back from, as in session->died */
};

/* Tells it. detail may be NULL where nothing is noted above. */
void session_happened(const struct session *session, enum happening what,
		      const struct happening_detail *detail);

#endif
