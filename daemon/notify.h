/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd is told of the service's life: ready, alive, its status. sd_notify(3). */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <event2/event.h>

/*
 * Starts the thread that tells it, if systemd listens, and keeps a watchdog quiet while base's loop
 * runs. -EAGAIN: there is no thread to be had.
 */
int notify_begin(struct event_base *base);

/* Waits for a moment until all is told. */
void notify_end(void);

void notify_ready(void);
void notify_reloaded(void);
void notify_stopping(void);

/* text is consumed. */
void notify_status(char *text);

#endif
