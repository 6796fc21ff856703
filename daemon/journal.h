/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal of one session: a SOCK_SEQPACKET pair, both ends kept in systemd's fd store. Each
 * change is one message, JSON and its descriptors, and counts as made once it is in. Nobody reads
 * while the daemon lives: the kernel's queue is the log, and holds the descriptors besides. After
 * any death the next daemon peeks at it, which consumes nothing, and appends where the last one
 * stopped. What the records are: daemon/record.h.
 *
 * A journal is a copy of generation N of its session. When its queue fills, or too much of it is
 * dead, a whole new copy is written, stored, and only then the old one dropped.
 */
#ifndef DAEMON_JOURNAL_H
#define DAEMON_JOURNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fdlist.h"

#define JOURNAL_PREFIX	"journal-" /* of the names in the fd store */
#define JOURNAL_ENTRIES 2	   /* of the fd store, for each journal */

struct journal {
	char *name;   /* in the fd store, followed by -r and -s for the ends */
	bool foreign; /* it is no journal, and in the fd store it has just this name */
	uint64_t generation;
	int receive; /* -1: only PID 1 has it, so that a send fails with -EPIPE if it does not */
	int send;
	unsigned int records; /* written */
};

/* Makes an empty journal of that generation, under a name of its own. It is not stored yet. */
int journal_new(uint64_t generation, struct journal **ret_journal);

/* One that came back from the fd store; either end may be -1. name: without -r or -s; copied. */
struct journal *journal_found(const char *name, int receive, int send);

/* Something else that came back, by the name it has there: to be kept, and dropped if told to. */
struct journal *journal_foreign(const char *name, int fd);

/* Closes this process's ends. */
void journal_free(struct journal *journal);

/*
 * Appends a record (not consumed) with at most JOURNAL_MAX_FDS descriptors (the caller's). -EAGAIN:
 * the queue is full. -EPIPE: the fd store has dropped the receiving end. -ETOOMANYREFS: more
 * descriptors are in flight than RLIMIT_NOFILE allows.
 */
#define JOURNAL_MAX_FDS 252 /* one more is left for a record that is too long, in a memfd */
int journal_write(struct journal *journal, const json_t *record, const int *fds, size_t n_fds);

/* Whether more than half of the queue is used: time for a new copy. */
bool journal_is_crowded(const struct journal *journal);

/*
 * Reads the next record, consuming nothing; rewinds first if asked. 1: *ret_record is the caller's,
 * its descriptors are in ret_fds. 0: there are no more. -EBADMSG: it is no record. -EMFILE: not all
 * of its descriptors could be received.
 */
int journal_rewind(struct journal *journal);
int journal_peek(struct journal *journal, json_t **ret_record, struct fdlist *ret_fds);

/* Stores both ends, and waits until PID 1 has them; drops them. Blocks: for workers. */
int journal_park(const struct journal *journal);
int journal_unpark(const struct journal *journal);

#endif
