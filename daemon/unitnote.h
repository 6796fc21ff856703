/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DAEMON_UNITNOTE_H
#define DAEMON_UNITNOTE_H

struct session;

/*
 * Looks up the systemd unit of the session's holder (daemon/unitlook.h): some time later it is in
 * session->unit, and in the journal. Nobody waits for that; it is told once it is known.
 */
void unitnote_begin(struct session *session);

#endif
