/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * systemd's fd store: descriptors that PID 1 keeps for the service over its death. PID 1 says
 * nothing when it drops one (the store is full), so entries are counted here. The calls may block
 * while PID 1 is busy: they belong into a worker. sd_notify(3), FileDescriptorStoreMax= in
 * systemd.service(5).
 */
#ifndef DAEMON_FDSTORE_H
#define DAEMON_FDSTORE_H

#include <stdbool.h>

/*
 * Sets how many descriptors the store takes: 0 if systemd gives none. max: as told by the
 * operator, used where systemd (before 254) does not tell by $FDSTORE.
 */
void fdstore_init(unsigned int max);

bool fdstore_exists(void);

/* Whether it is kept over a stop of the service too: systemd 254 and newer, which tells its size. */
bool fdstore_outlives_stop(void);

/* Whether there is room for n more; fdstore_take() counts them, fdstore_give() counts them off. */
bool fdstore_has_room(unsigned int n);
void fdstore_take(unsigned int n);
void fdstore_give(unsigned int n);

/* Stores a copy of fd under a name of its own. PID 1 is to keep it even if its peer is gone. */
int fdstore_add(const char *name, int fd);

/* Drops what is stored under the name. */
int fdstore_remove(const char *name);

/* Returns when PID 1 has done all that was asked before. -ETIMEDOUT: it did not, in ten seconds. */
int fdstore_barrier(void);

#endif
