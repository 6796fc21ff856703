/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each user has of the daemon, and how much of it a user may have. Whatever counts for a user
 * counts itself here when it begins and ends, so that a limit is looked up and not added up.
 */
#ifndef DAEMON_ACCOUNT_H
#define DAEMON_ACCOUNT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum errand_kind {
	ERRAND_MAY_HANG,
	ERRAND_SETTLE,
	ERRAND_SHORT,
	ERRAND_LOOK_UP,
	ERRAND_KINDS,
};

struct account {
	uid_t uid;
	unsigned int references;
	unsigned int sessions, connections, monitors;
	unsigned int closing; /* messages whose unwanted descriptors are not closed yet */
	unsigned int errands[ERRAND_KINDS]; /* threads at work in its name: daemon/errand.h */
	GQueue errands_waiting[ERRAND_KINDS];
	GQueue turns; /* its connections that wait for one: daemon/turn.h */
	bool waits_turn, had_turn;
	GQueue counting;       /* of its tables: daemon/counting.c */
	gint64 counting_rests; /* until then, CLOCK_MONOTONIC in microseconds */
	size_t descriptors;    /* held, staged, looked at, or of a message not whole yet */
	size_t gaps;	       /* numbers without a descriptor in what is held or staged */
	size_t bytes;	       /* of messages that are not whole yet */
	size_t in_flight;      /* descriptors in its sessions' journals */
	size_t unread;	       /* descriptors in answers that its processes have not received */
};

/* The account of that user, with a reference more. */
struct account *account_get(uid_t uid);
void account_put(struct account *account);

void account_count_descriptors(struct account *account, ssize_t change);
void account_count_held(struct account *account, ssize_t descriptors, ssize_t gaps);

/*
 * A descriptor that is sent is in flight until it is received: one in a journal always, one in an
 * answer until the peer reads. The kernel counts them for the daemon's uid, whoever they are for,
 * and beyond RLIMIT_NOFILE it sends none: ETOOMANYREFS from sendmsg(), by too_many_unix_fds()
 * (net/unix/garbage.c, Linux 6.1: net/core/scm.c). So they are counted here for the user who causes
 * them, journals and answers apart; of each, a part is left for claims, and one for root.
 */
enum flight {
	FLIGHT_RECORD,	     /* into a journal: what is stored, or a copy of a whole session */
	FLIGHT_CLAIM_RECORD, /* into a journal: what a claim changes */
	FLIGHT_ANSWER,	     /* to a holder */
	FLIGHT_CLAIM_ANSWER, /* to a holder that is restoring */
};

/* How many may be in flight in all: RLIMIT_NOFILE. To be told once, before any are. */
void account_limit_flight(size_t limit);

/* Descriptors in journals that have been added or have gone, and those in answers. */
void account_count_in_flight(struct account *account, ssize_t change);
void account_count_unread(struct account *account, ssize_t change);

/*
 * Whether n more may be sent now. false: wait, and ask again later. true is no promise: other
 * processes of that uid count for the kernel too, and it may say ETOOMANYREFS all the same.
 */
bool account_may_fly(const struct account *account, size_t n, enum flight purpose);

/*
 * Why the user may have no more sessions or monitors, send no more messages, or has too many
 * descriptors (all may have `limit`, and all but root a little less) or bytes; a sentence to g_free(),
 * or NULL.
 */
char *account_refuse_session(const struct account *account);
char *account_refuse_monitor(const struct account *account);
char *account_refuse_message(const struct account *account);
char *account_refuse_descriptors(const struct account *account, size_t limit);
char *account_refuse_bytes(const struct account *account);

/* How many connections all users but root may have. To be told once, before there are any. */
void account_limit_connections(size_t limit);

/* One connection more, or less. */
void account_count_connections(struct account *account, int change);

/* Why the user may have no more connections, a sentence to g_free(), or NULL. */
char *account_refuse_connection(const struct account *account);

#endif
