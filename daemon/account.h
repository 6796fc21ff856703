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

struct account {
	uid_t uid;
	unsigned int references;
	unsigned int sessions, connections;
	unsigned int closing; /* messages whose unwanted descriptors are not closed yet */
	unsigned int errands; /* threads at work in its name: daemon/errand.h */
	GQueue errands_waiting;
	size_t descriptors; /* held, staged or of a message not whole yet, with gaps in runs */
	size_t bytes;	    /* of messages that are not whole yet */
};

/* The account of that user, with a reference more. */
struct account *account_get(uid_t uid);
void account_put(struct account *account);

void account_count_descriptors(struct account *account, ssize_t change);

/*
 * Why the user may have no more sessions, send no more messages, or has too many descriptors (all
 * may have `limit`) or bytes; a sentence to g_free(), or NULL.
 */
char *account_refuse_session(const struct account *account);
char *account_refuse_message(const struct account *account);
char *account_refuse_descriptors(const struct account *account, size_t limit);
char *account_refuse_bytes(const struct account *account);

/* Whether the user has more connections than it may. */
bool account_has_many_connections(const struct account *account);

#endif
