/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the log tells of a session's life. Whoever reads it knows units and devices, and asks when
 * the VM was gone and when it was back: that is what each line names.
 */
#ifndef DAEMON_LIFELOG_H
#define DAEMON_LIFELOG_H

#include <glib.h>
#include <sys/types.h>

struct session;

/* " of UNIT", or nothing; to g_free(). */
char *lifelog_of_unit(const char *unit);

/* It is an orphan now. pid: its holder was (0: not known); spaces: how many were settled. */
void lifelog_orphaned(const struct session *session, pid_t pid, unsigned int spaces, gint64 usec);

/* It is active again, after a death at that time (as in session->died). */
void lifelog_active(const struct session *session, gint64 died);

/* It has been an orphan for long. */
void lifelog_old(const struct session *session);

#endif
