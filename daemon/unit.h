/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DAEMON_UNIT_H
#define DAEMON_UNIT_H

#include <sys/types.h>

/*
 * The systemd unit of a process, to g_free(), or NULL: it is in none, or has ended (its pidfd
 * tells). Reads a file of /proc, so it is not for what a VM waits for.
 */
char *unit_of(pid_t pid, int pidfd);

#endif
