/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd is told of the service's life: ready, alive, its status. sd_notify(3). */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <event2/event.h>

/* Keeps the watchdog quiet while loop and workers do their work, if systemd has set one. */
void notify_begin(struct event_base *base);
void notify_end(void);

void notify_ready(void);
void notify_reloaded(void);
void notify_stopping(void);

/* text is consumed. */
void notify_status(char *text);

#endif
