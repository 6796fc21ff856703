/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DAEMON_ORPHAN_H
#define DAEMON_ORPHAN_H

struct session;

/*
 * The session's holder has died, every close() of it has run, and what it held goes on. Settles
 * its address spaces; the session is busy until it is an orphan.
 */
void orphan_begin(struct session *session);

#endif
