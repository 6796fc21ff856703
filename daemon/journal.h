/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal of one session: a SOCK_SEQPACKET pair, whose receiving end is kept in systemd's fd
 * store. Each change is one message, JSON and its descriptors, and counts as made once it is in.
 * Nobody reads while the daemon lives: the kernel's queue is the log, and holds the descriptors
 * besides. After any death the next daemon peeks at it, which consumes nothing, and appends where
 * the last one stopped. What the records are: daemon/record.h.
 *
 * The sending end is a descriptor of its own first record. It holds no file, so that it makes no
 * circle: with the receiving end the kernel frees the queue, and with that the sending end. Daemons
 * before 0.3.0 keep it in the fd store too, and give a journal that lacks it there a new copy.
 *
 * A journal is a copy of its session. When its queue fills, or too much of it is dead, a whole new
 * copy is written, stored, and only then the old one dropped.
 */
#ifndef DAEMON_JOURNAL_H
#define DAEMON_JOURNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/fdlist.h"

#define JOURNAL_PREFIX	"journal-" /* of the names in the fd store */
#define JOURNAL_ENTRIES 1	   /* of the fd store, for each journal */

struct journal {
	char *name;    /* in the fd store, followed by -r for the receiving end */
	bool foreign;  /* it is no journal, and in the fd store it has just this name */
	bool stored;   /* the receiving end is an entry of the fd store, or is going to be */
	bool has_twin; /* the sending end is one too, followed by -s */
	int receive;   /* -1: only PID 1 has it, so that a send fails with -EPIPE if it does not */
	int send;
	unsigned int records; /* written */
	size_t descriptors;   /* that these brought, and that are in flight while it is there */
};

/*
 * Makes an empty journal under a name of its own, which tells the session and its owner if the fd
 * store has room for that. It is not stored yet.
 */
int journal_new(const char *session, uid_t uid, struct journal **ret_journal);

/* One that came back from the fd store; either end may be -1. name: without -r or -s; copied. */
struct journal *journal_found(const char *name, int receive, int send);

/* What its name tells of the session. false: nothing. *ret_session is to be g_free()d. */
bool journal_tells(const struct journal *journal, char **ret_session, uid_t *ret_uid);

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

/* How many descriptors are in its queue, dead records' too; 0 where the kernel does not tell. */
size_t journal_in_flight(const struct journal *journal);

/* Whether more than half of the queue is used: time for a new copy. */
bool journal_is_crowded(const struct journal *journal);

/*
 * Reads the next record, consuming nothing; rewinds first if asked. 1: *ret_record is the caller's,
 * its descriptors are in ret_fds. 0: there are no more. -EBADMSG: it is no record. -EMFILE: not all
 * of its descriptors could be received. They are in the queue as well, so that a close of them is
 * not the last, and takes no time.
 */
int journal_rewind(struct journal *journal);
int journal_peek(struct journal *journal, json_t **ret_record, struct fdlist *ret_fds);

/* Counts its entries of the fd store in, before it is parked, or off, after it was dropped. */
void journal_take_room(const struct journal *journal);
void journal_give_room(const struct journal *journal);

/*
 * Stores it, and waits until PID 1 has it; drops it, and waits until its queue is gone. -EBUSY: it is
 * not, so that somebody has the receiving end yet. Blocks: for workers.
 */
int journal_park(const struct journal *journal);
int journal_unpark(const struct journal *journal);

#endif
