/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * systemd's fd store: descriptors that PID 1 keeps for the service over its death. PID 1 says
 * nothing when it drops one (the store is full), so entries are counted here. The calls may block
 * while PID 1 is busy: they belong into a worker. sd_notify(3), FileDescriptorStoreMax= in
 * systemd.service(5).
 */
#ifndef DAEMON_FDSTORE_H
#define DAEMON_FDSTORE_H

#include <event2/event.h>
#include <stdbool.h>

/*
 * Sets how many descriptors the store takes: 0 if systemd gives none. max: as told by the
 * operator, used where systemd (before 254) does not tell by $FDSTORE.
 */
void fdstore_init(unsigned int max);

bool fdstore_exists(void);

/* Whether it is kept over a stop of the service too: systemd 254 and newer, which tells its size. */
bool fdstore_outlives_stop(void);

/*
 * Whether there is room for n more, under names of at most FDSTORE_SHORT bytes. The names count too:
 * systemd hands all of them to the next daemon in one variable, and if that is too long for the
 * kernel, the daemon can never be started again.
 */
#define FDSTORE_SHORT 26
bool fdstore_has_room(unsigned int n);

/* Whether one may have that name, longer than it must be, at nobody else's expense. */
bool fdstore_may_be_called(const char *name);

/* One part of so many of all it takes. */
unsigned int fdstore_part(unsigned int parts);

/* Why there is no room for n more, and what to do; a sentence to g_free(). NULL: there is. */
char *fdstore_refusal(unsigned int n);

/* Counts one in, or off. A socket that systemd hands over has a name as well, and no entry. */
void fdstore_take(const char *name);
void fdstore_give(const char *name);
void fdstore_take_socket(const char *name);

/* Stores a copy of fd under a name of its own. PID 1 is to keep it even if its peer is gone. */
int fdstore_add(const char *name, int fd);

/* Drops what is stored under the name. */
int fdstore_remove(const char *name);

/* Returns when PID 1 has done all that was asked before. -ETIMEDOUT: it did not, in ten seconds. */
int fdstore_barrier(void);

/*
 * Asks PID 1, in a thread, whether it is there at all, and again every 30 s while it is not. What it
 * is found to be is logged. fdstore_forget() ends that.
 */
void fdstore_probe(struct event_base *base);
void fdstore_forget(void);

/*
 * By the last barrier: nobody is where NOTIFY_SOCKET points to, so that no session can be kept; or, in
 * a sentence, that or that PID 1 takes its time. NULL: it has answered, or was not asked yet.
 */
bool fdstore_is_gone(void);
const char *fdstore_trouble(void);

#endif
