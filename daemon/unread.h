/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors in answers that the peer has not received. They are in flight (daemon/account.h) also
 * after the daemon has closed its end: only the peer's reading or closing ends that. So they are
 * counted until then, and an end with some stays open, as nothing else would tell.
 */
#ifndef DAEMON_UNREAD_H
#define DAEMON_UNREAD_H

#include <event2/event.h>
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#include "daemon/account.h"

struct drain;

struct unread {
	struct account *account;
	int socket;
	size_t n;
	gint64 sent; /* CLOCK_MONOTONIC, microseconds: the last of them */
	GList link;
	struct drain *drain; /* of what the peer left unread, in a thread; NULL: none */
};

/* For what is left open, see unread_close_socket(). */
void unread_start(struct event_base *base);
void unread_stop(void);

void unread_init(struct unread *unread, struct account *account, int socket);

/* So many more have been sent. */
void unread_add(struct unread *unread, size_t n);

/* Whether n more may be sent now; account_may_fly(), after a look at what has been received. */
bool unread_allows(struct unread *unread, size_t n, enum flight purpose);

/* Closes the socket; not before all that was sent is received, or never will be. */
void unread_close_socket(struct unread *unread);

#endif
