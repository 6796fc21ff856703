/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interrupts that wait in eventfds, without consuming them. */
#ifndef DAEMON_PENDING_H
#define DAEMON_PENDING_H

#include <glib.h>
#include <stdint.h>

#define PENDING_AT_ONCE 256

struct object;

/*
 * Looks at the vectors of an object of eventfds from `first` on, as many as ret_counts has room for:
 * each one's count (at most INT64_MAX; 0: nothing waits). Returns how many it has looked at, and adds
 * to *cost: 1 for each, 16 for one that has a count.
 */
guint pending_look(const struct object *object, guint first, uint64_t ret_counts[PENDING_AT_ONCE],
		   unsigned int *cost);

#endif
