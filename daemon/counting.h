/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counting the mapping tables of sessions that somebody looks at: in threads, as errands of the
 * sessions' owners (daemon/errand.h), at most one for each user. A table that tells by its header
 * that nothing has changed is not read again. Who looks waits, but never long: what is not counted
 * by then is told as it was last known.
 */
#ifndef DAEMON_COUNTING_H
#define DAEMON_COUNTING_H

#include <glib.h>
#include <stdbool.h>

struct peer;

/*
 * The peer's call goes on with then(peer), in its turn, when the tables of the sessions (of struct session) are
 * counted; that may be before this returns. false: nothing is to be counted, and then() not called.
 */
bool counting_wait(struct peer *peer, const GPtrArray *sessions, void (*then)(struct peer *peer));

#endif
