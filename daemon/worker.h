/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work that may block in the kernel, done in threads; its end is told in the event loop. The loop
 * itself never waits: a device's last close can take seconds, an orphan's ioctls 100 ms.
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include <event2/event.h>
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Starts those threads that must be there; done callbacks will run in base's loop. -EAGAIN: no
 * thread is to be had.
 */
int worker_start(struct event_base *base);

extern gint64 worker_patience_usec; /* at the daemon's end; a test has less */
extern unsigned int worker_closes;  /* so much of the work under way closes descriptors */

/*
 * Waits for all work but what may hang, and runs what is done. false: after so long there was still
 * some, which the log tells. What it works on must stay as it is then, to the end of the process.
 */
bool worker_drain(void);

/* A moment for work that may hang, and seldom does: at the daemon's end. */
void worker_wait_for_hanging(void);

/*
 * Waits as worker_drain() does, then a moment for work that may hang, and ends the threads' side.
 * What hangs even then is left to the end of the process. false: as worker_drain().
 */
bool worker_stop(void);

/*
 * Runs work(data) in a thread, then done(data) in the loop. done may be NULL. It ends by itself,
 * though it may take seconds, and waits for no other work as long as threads can be started.
 */
void worker_run(void (*work)(void *data), void (*done)(void *data), void *data);

/*
 * The same for work that may never return, as it waits for what a peer has: the daemon's end does not
 * wait for it. Call errand_run() (daemon/errand.h), which counts it for a user.
 */
void worker_run_or_hang(void (*work)(void *data), void (*done)(void *data), void *data);

/* In daemon/worker-close.c. Closes descriptors in a thread; they are copied. */
void worker_close(const int *fds, size_t n);

/* What worker_close() does, with the parameters that struct fdlist wants; it counts for no user. */
void worker_close_all(const int *fds, size_t n, void *unused);

/* Closes descriptors in a thread, too; done(data) runs in the loop once they are closed. */
void worker_close_then(const int *fds, size_t n, void (*done)(void *data), void *data);

/* Closes what by(data) finds there, which runs in a thread. */
void worker_close_by(void (*by)(void *data), void *data);

#endif
