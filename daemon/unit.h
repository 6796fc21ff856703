/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DAEMON_UNIT_H
#define DAEMON_UNIT_H

#include <sys/types.h>

/*
 * The systemd unit of a process, to g_free(), or NULL: it is in none, or has ended. It is its own if it
 * lives still afterwards: else the number may have been another's. Reads a file of /proc: in a thread,
 * as daemon/unitlook.h tells.
 */
char *unit_of(pid_t pid);

#endif
