/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keeping a session over the daemon's own death: what changes goes into its journal, and the
 * journal into systemd's fd store. Without a store nothing is kept, and every change counts as kept
 * at once; what there is to close is closed by a worker all the same.
 *
 * What systemd or the kernel does not do now is owed (session->debt): the next change of the session
 * does it too, and a timer tries it again until it is done. Until then whoever caused it is told an
 * error, and Status warns (daemon/owed.h).
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

/* A new session: it is busy until its journal is stored, or session->debt tells why it is not. */
void keep_begin(struct session *session);

/* A session that is back with its journal: what the last daemon owed is this one's to do. */
void keep_recovered(struct session *session);

/*
 * One change; of objects, the next part of it (1: there is more). 0: it is kept, and may be made and
 * acknowledged. Else the journal is full or lost, or too many descriptors are in flight: keep_anew(),
 * after which there may be room; what cannot be kept then must be refused. A state that is not kept
 * is owed: keep_state_again().
 */
int keep_objects_part(struct session *session, const struct object_set *objects,
		      struct object_cursor *cursor);
int keep_state(struct session *session);

/*
 * Its state, after keep_state() has failed so. If it is that too many descriptors are in flight, it is
 * tried for some time; else the journal is written anew. Busy meanwhile, and then as keep_anew().
 */
void keep_state_again(struct session *session, int error);

/* Its state, where nobody waits for it: if it is not kept now, that is tried again later. */
void keep_state_later(struct session *session);

/*
 * Writes the session's journal anew, without what is dead in it. The session is busy meanwhile; then
 * nothing is owed, or session->debt tells what and why.
 */
void keep_anew(struct session *session);

/*
 * Likewise after an object was taken out of the session, and closes its descriptors after (taken from
 * the list): only then does the kernel let go of them, as the old journal held them too.
 */
void keep_removal(struct session *session, enum object_kind kind, const char *name,
		  struct fdlist *fds);

/* Writes the journal anew if it has become crowded, or if most of it is dead; else does nothing. */
void keep_tidy(struct session *session);

/*
 * Drops all journals of the session, closes its objects and fds (both are taken), then done(session).
 * Busy meanwhile. If keep_holds() then, systemd has not let go of everything: it is owed.
 */
void keep_end(struct session *session, struct fdlist *fds, void (*done)(struct session *session));

/* Tries what is owed again, now. Busy meanwhile; a release ends as keep_end() does. */
void keep_settle(struct session *session);

/* Whether systemd may hold what the session does not any more: what was removed, or its journals. */
bool keep_holds(const struct session *session);

/* What an error of keep_...() means, and what to do about it; to g_free(). */
char *keep_explain(int error);

/* Drops a stored journal that belongs to no session, and frees it. */
void keep_drop(struct journal *journal);

/* At the daemon's end, with no such work under way: what systemd still holds of them is the next one's. */
void keep_stop(void);

#endif
