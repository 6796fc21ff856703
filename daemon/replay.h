/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A journal read back, record by record; what these are is told in daemon/record.h. */
#ifndef DAEMON_REPLAY_H
#define DAEMON_REPLAY_H

#include "daemon/journal.h"
#include "daemon/session.h"

/* What a journal tells of its session. */
struct replay {
	char *name; /* NULL: not even that */
	uid_t uid;
	uint64_t lineage; /* 0: none */
	uint64_t generation;
	char *replaces;
	bool complete;
	enum session_state state;
	gint64 since, died;
	struct holder holder; /* pid; pidfd -1: none */
	char *unit;
	struct object_set objects;
	GPtrArray *opaque; /* what else it holds: daemon/opaque.h */
	GHashTable *spaces;
	bool removed;		    /* it holds descriptors of what was removed, */
	GPtrArray *removed_devices; /* devices of these names among them */
};

/*
 * Reads the journal from its start. NULL: it is read. Else a sentence why it cannot be, to g_free(),
 * and ret_replay has what its first record or else its name in the fd store tells. ret_replay is to
 * be cleared in any case; that closes what the journal holds too, so that it takes no time.
 */
char *record_replay(struct journal *journal, struct replay *ret_replay);
void replay_clear(struct replay *replay);

/* The same of its first record alone; nothing needs to be cleared but *ret_name, to be g_free()d. */
void record_whose(struct journal *journal, char **ret_name, uid_t *ret_uid);

#endif
