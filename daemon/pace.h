/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How often a user may make PID 1 work. A session that begins or ends is half a dozen messages to it,
 * and lines in the log, and PID 1 has a host to run. So there is a number at once, and then so many a
 * second; who wants more waits. Root does not.
 */
#ifndef DAEMON_PACE_H
#define DAEMON_PACE_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * At that time (of g_get_monotonic_time()), how long the user has to wait before the next one, in
 * microseconds. *ret_taken: that one is counted, and may go ahead then; else there are so many that it
 * has to ask again then.
 */
gint64 pace_next(uid_t uid, gint64 now, bool *ret_taken);

#endif
