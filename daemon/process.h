/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process by its pidfd. A number is none of its own: it is given to another process after the
 * death, and is 0 for a process that is not in the daemon's PID namespace.
 */
#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Whether its process lives; a zombie does not. false for -1. */
bool process_lives(int pidfd);

/*
 * Its number, or 0 in a PID namespace where it has none. -ESRCH: it has died, and been waited for.
 * -ENOENT: /proc does not tell.
 */
pid_t process_number(int pidfd);

/* kernel->same_process(). */
int process_same(int a, int b);

/* That, as before Linux 6.9: for a test. */
int process_same_by_number(int a, int b);

#endif
