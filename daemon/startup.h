/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the daemon has from whoever started it, and no peer: descriptors, signals, limits. */
#ifndef DAEMON_STARTUP_H
#define DAEMON_STARTUP_H

/*
 * The first thing that main() does. Nothing that is opened later can be standard input, output or
 * error. SIGTERM, SIGINT and SIGHUP wait, and signals that mean nothing here are ignored.
 */
void startup_init(void);

/* What waits comes now, and is caught, or kills. */
void startup_take_signals(void);

/* Closes what is neither standard input, output or error nor from systemd. */
void startup_close_strangers(void);

/* As many descriptors as may be, and room to be charged for pinned memory (CHANGE_PROCESS). */
void startup_raise_limits(void);

/*
 * Room for descriptors, before there are threads. Later the kernel has who needs more of it wait until
 * no processor looks at the old table any more (synchronize_rcu() in fs/file.c), 10 ms and longer.
 */
void startup_make_room(void);

#endif
