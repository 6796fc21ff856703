/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orphans that nobody comes for. A VM that was stopped for good leaves its devices and memory held
 * for ever, and looks like one whose next VMM is about to start: the log tells of it, once.
 */
#ifndef DAEMON_OLDORPHAN_H
#define DAEMON_OLDORPHAN_H

struct session;

/* The session is an orphan since session->since. */
void oldorphan_watch(struct session *session);

/* It is none any more. */
void oldorphan_forget(struct session *session);

#endif
