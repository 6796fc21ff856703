/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon could not do yet and does in the end: it is tried again after a pause, of a second
 * first and of a minute at last, until it is done, and told meanwhile. Nothing wakes up for what is
 * not owed.
 */
#ifndef DAEMON_OWED_H
#define DAEMON_OWED_H

#include <event2/event.h>
#include <stdbool.h>
#include <sys/types.h>

struct owed;

/* Where the pauses are waited for. */
void owed_start(struct event_base *base);

/* Something of uid's (root's: the daemon's own) that may come to be owed, and is not yet. */
struct owed *owed_new(uid_t uid, void (*again)(void *data), void *data);
void owed_free(struct owed *owed);

/*
 * It is owed: why is a sentence, copied. again(data) is called after a pause, twice as long as the
 * last. true: it is news, for the log, as it was not owed before or for another reason.
 */
bool owed_note(struct owed *owed, const char *why);

/* Somebody tries it now: again() is not called before the next owed_note(). */
void owed_try(struct owed *owed);

/* It is done. true: it was owed. */
bool owed_settle(struct owed *owed);

/* Why it is owed; NULL: it is not. */
const char *owed_why(const struct owed *owed);

/* What is owed, for one who may see what is uid's (root may see all): a text to g_free(), or NULL. */
char *owed_warning(uid_t viewer);

#endif
