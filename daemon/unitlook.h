/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A look-up of a process's systemd unit (daemon/unit.h), as an errand: the first look at a process in
 * /proc takes the lock of its directory, which a user holds by a getdents() of /proc into a page of a
 * FUSE file of its own while another of its processes makes a file there. All such looks hang, then,
 * and nothing else does.
 */
#ifndef DAEMON_UNITLOOK_H
#define DAEMON_UNITLOOK_H

#include <stdbool.h>
#include <sys/types.h>

struct account;
struct unit_look;

/*
 * Looks. done(data, unit) will run in the loop, unless it is dropped before. unit is its own then, to
 * g_free(), and that of the process if that lives still; NULL: it is in none, or has ended. Returns
 * NULL if too many wait already: then done() will not run.
 */
struct unit_look *unit_look_begin(struct account *account, pid_t pid,
				  void (*done)(void *data, char *unit), void *data);

/* Whether looks in that user's name wait for others to end. */
bool unit_looks_wait(const struct account *account);

/* Nobody waits for it any more. NULL is none. */
void unit_look_drop(struct unit_look *look);

#endif
