/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages to systemd, in workers: a send waits for a PID 1 that is slow. daemon/notify.h. */
#include "daemon/notify.h"

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <systemd/sd-daemon.h>

#include "daemon/worker.h"

static struct {
	struct event *timer;
	bool asked; /* a worker was asked to send WATCHDOG=1, and has not told that it did */
} watchdog;

static void give_sign(void *unused)
{
	(void)unused;
	sd_notify(0, "WATCHDOG=1");
}

/* Runs in the loop after a worker has sent it. So both are alive, and the next may be sent. */
static void on_sign(void *unused)
{
	(void)unused;
	watchdog.asked = false;
}

static void on_timer(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	(void)data;
	if (watchdog.asked)
		return;
	watchdog.asked = true;
	worker_run(give_sign, on_sign, NULL);
}

void notify_begin(struct event_base *base)
{
	struct timeval interval;
	uint64_t usec;

	if (sd_watchdog_enabled(0, &usec) <= 0)
		return;
	interval.tv_sec = usec / 3 / G_USEC_PER_SEC;
	interval.tv_usec = usec / 3 % G_USEC_PER_SEC;
	watchdog.timer = event_new(base, -1, EV_PERSIST, on_timer, NULL);
	event_add(watchdog.timer, &interval);
}

void notify_end(void)
{
	if (watchdog.timer)
		event_free(watchdog.timer);
	watchdog.timer = NULL;
}

static void send_text(void *text)
{
	sd_notify(0, text);
	g_free(text);
}

static void tell(char *text)
{
	worker_run(send_text, NULL, text);
}

void notify_ready(void)
{
	tell(g_strdup("READY=1"));
}

/* Both in one worker, since two would not keep their order. */
static void send_reloaded(void *begun)
{
	send_text(begun);
	sd_notify(0, "READY=1");
}

void notify_reloaded(void)
{
	/* systemd compares the time with that of its request. */
	worker_run(send_reloaded, NULL,
		   g_strdup_printf("RELOADING=1\nMONOTONIC_USEC=%" PRId64, g_get_monotonic_time()));
}

void notify_status(char *text)
{
	tell(g_strconcat("STATUS=", text, NULL));
	g_free(text);
}

void notify_stopping(void)
{
	tell(g_strdup("STOPPING=1"));
}
