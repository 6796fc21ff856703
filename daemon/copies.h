/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The copies that there are of one session when a daemon starts: mostly one. One more is there if the
 * last daemon died between two of them, and any number if a daemon that could not read one has made
 * another under the same name. Which of them is the session is decided here, and which may go: only
 * what another copy is proven to have, or to follow upon, and not without a line in the log.
 */
#ifndef DAEMON_COPIES_H
#define DAEMON_COPIES_H

#include <glib.h>

#include "daemon/replay.h"

struct copy {
	struct journal *journal;
	struct replay replay;
	char *problem; /* why it is not the session; NULL: it is */
};

/* Reads a journal, which is the copy's now. Never NULL. */
struct copy *copy_read(struct journal *journal);

/* Frees it, but not its journal. What it has of the journal's descriptors is closed. */
void copy_free(struct copy *copy);

/* Whether all of it was read, and it was finished. */
bool copy_is_whole(const struct copy *copy);

/* "generation 3, 52 descriptors, with device 0000:3b:00.0", to g_free(). */
char *copy_describe(const struct copy *copy);

/*
 * Drops from the copies of one session (at least one, of struct copy) what may go, and sorts the
 * others: the first one is the session, unless it has a problem, and all others have one.
 */
void copies_judge(GPtrArray *copies);

#endif
