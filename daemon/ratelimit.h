/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How many lines of the log a user may cause: some at once, then one now and then, so that nobody
 * can bury what others need to read, or fill a disk.
 */
#ifndef DAEMON_RATELIMIT_H
#define DAEMON_RATELIMIT_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* For lines that no user caused more than others. */
#define RATELIMIT_NOBODY ((uid_t)-1)

/*
 * Whether one more line may be logged at that time (of g_get_monotonic_time()). true: *ret_lost are
 * those of that user that might not since the last one.
 */
bool ratelimit_allows(uid_t uid, gint64 now, unsigned int *ret_lost);

#endif
