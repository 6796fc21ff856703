/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Telling peers that watch of what happens to sessions. */
#ifndef DAEMON_MONITOR_H
#define DAEMON_MONITOR_H

struct peer;
struct session;

/* Tells every peer that watches this session (name: an Event's, see the interface). */
void monitor_tell(const struct session *session, const char *name);

/* The peer watches from now on: the sessions present are its first answer. */
void monitor_begin(struct peer *peer);

#endif
