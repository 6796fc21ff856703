/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keeping a session over the daemon's own death: what changes goes into its journal, and the
 * journal into systemd's fd store. Without a store nothing is kept, and every change counts as kept
 * at once; what there is to close is closed by a worker all the same.
 */
#ifndef DAEMON_KEEP_H
#define DAEMON_KEEP_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/object.h"

struct journal;
struct session;

/*
 * Why the store has no room for one more session of that user's making, to g_free(); NULL: it has, or
 * there is no store. Root may use a part of it that no other users can take, however many they are.
 */
char *keep_refusal(uid_t uid);

/* A new session: it is busy until its journal is stored, or session->kept tells why it is not. */
void keep_begin(struct session *session);

/*
 * One change. 0: it is kept, and may be made and acknowledged. Else the journal is full or lost:
 * keep_anew(); what cannot be kept after that must be refused.
 */
int keep_objects(struct session *session, const struct object_set *objects);
int keep_state(struct session *session);
int keep_removal(struct session *session, enum object_kind kind, const char *name);

/*
 * Writes the session's journal anew, without what is dead in it, and closes fds after (taken from
 * the list; NULL: none): only then does the kernel let go of them, as the old journal held them
 * too. The session is busy meanwhile; then session->kept tells whether it is kept as it was when
 * this began.
 */
void keep_anew(struct session *session, struct fdlist *fds);

/* Writes the journal anew if it has become crowded, or if most of it is dead; else does nothing. */
void keep_tidy(struct session *session);

/* Drops the journal, closes fds (taken from the list), then done(session). Busy meanwhile. */
void keep_end(struct session *session, struct fdlist *fds, void (*done)(struct session *session));

/* Drops a stored journal that belongs to no session, and frees it. */
void keep_drop(struct journal *journal);

#endif
