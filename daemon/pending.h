/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interrupts that wait in eventfds, without consuming them. */
#ifndef DAEMON_PENDING_H
#define DAEMON_PENDING_H

#include <glib.h>
#include <stdint.h>

#define PENDING_AT_ONCE 64

/*
 * Looks at n eventfds (-1: there is none), at most PENDING_AT_ONCE: each one's count (at most
 * INT64_MAX; 0: nothing waits). Adds to *cost: 1 for each, 16 for one that has a count, and 8.
 */
void pending_look(const int *fds, guint n, uint64_t ret_counts[PENDING_AT_ONCE],
		  unsigned int *cost);

#endif
