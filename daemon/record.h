/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The records of a journal, as they are written. Each is a JSON object with an op:
 *
 *	open	  version, lineage, generation, name and uid of the session, and the name of the journal
 *		  that this one replaces, if any; the first. The journal's sending end beside
 *	state	  state, since when, when the last holder died, the holder's pid (its pidfd beside)
 *		  and, if known, its unit or that of the last one, what is known of spaces
 *	objects	  objects as on the wire, with their descriptors; "first" and "last" of a change that
 *		  takes several records and counts only whole
 *	remove	  kind and name of an object
 *	complete  the copy is whole, and stored: from here on it counts, and there are changes
 *
 * A reader refuses a version beyond its own, and keeps what it cannot read. It passes over fields
 * that it does not know: what may be missed is added without a new version (unit, died, lineage and
 * replaces are such). "open", with lineage, generation, name and uid, is the same in every version:
 * so whose a journal is can be told without reading the rest.
 *
 * A lineage is a session from its making to its release, over all copies and daemons. Generations
 * compare within one lineage alone. Journals of before 0.3.0 have none.
 */
#ifndef DAEMON_RECORD_H
#define DAEMON_RECORD_H

#include "daemon/journal.h"
#include "daemon/session.h"

#define RECORD_VERSION 1

/*
 * Writes the first records of a copy of the session into an empty journal, all but its objects; and
 * those, of which there may be many: in a worker. Errors: as journal_write().
 */
int record_head(struct journal *journal, const struct session *session);
int record_rest(struct journal *journal, const struct session *session);

/* Ends the copy: it is stored. -EPIPE: it is not. */
int record_complete(struct journal *journal);

/* Writes one change. Errors: as journal_write(); then it does not count, in whole or in part. */
int record_objects(struct journal *journal, const struct object_set *objects);

/*
 * The next record of such a change: 1: there is more, from the cursor on, which begins at 0; 0: that
 * was the last. It counts when that is written, and other records of objects may not come between.
 */
int record_objects_part(struct journal *journal, const struct object_set *objects,
			struct object_cursor *cursor);
int record_state(struct journal *journal, const struct session *session);
int record_remove(struct journal *journal, enum object_kind kind, const char *name);

#endif
