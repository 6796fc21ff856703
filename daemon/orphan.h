/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DAEMON_ORPHAN_H
#define DAEMON_ORPHAN_H

#include <sys/types.h>

struct session;

/*
 * The session's holder has died, every close() of it has run, and what it held goes on. Settles
 * its address spaces; the session is busy until it is an orphan. pid: the holder's, for the log; 0
 * if it is not known any more.
 */
void orphan_begin(struct session *session, pid_t pid);

#endif
