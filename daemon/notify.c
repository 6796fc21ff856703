/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages to systemd: daemon/notify.h. A send waits for a PID 1 that is slow, so a thread does it,
 * of their own: the watchdog's sign waits for no other work, and needs no thread that may not be to
 * be had. What is to be told is kept, and not how often: it is bounded, however slow PID 1 is.
 */
#include "daemon/notify.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <systemd/sd-daemon.h>

#include "daemon/kernel.h"

#define LAST_WORDS_USEC G_USEC_PER_SEC /* how long the end waits until it is told */

/* In the order in which it is told. */
struct news {
	bool ready;
	char *reloading; /* followed by READY=1 once more */
	char *status;	 /* the newest */
	bool is_alive;
	bool stopping;
};

static struct {
	GMutex lock; /* for these: */
	GCond changed;
	struct news news;
	bool is_running, is_ending;

	struct event *timer; /* the loop's */
} notify;

/* The thread */

static bool is_news(const struct news *news)
{
	return news->ready || news->reloading || news->status || news->is_alive || news->stopping;
}

static void send_text(char *text)
{
	if (text)
		sd_notify(0, text);
	g_free(text);
}

static void send_news(struct news news)
{
	bool is_reloaded = news.reloading;

	if (news.ready)
		sd_notify(0, "READY=1");
	send_text(news.reloading);
	if (is_reloaded)
		sd_notify(0, "READY=1");
	send_text(news.status);
	if (news.is_alive)
		sd_notify(0, "WATCHDOG=1");
	if (news.stopping)
		sd_notify(0, "STOPPING=1");
}

static void *in_thread(void *unused)
{
	(void)unused;
	pthread_setname_np(pthread_self(), "notify");
	g_mutex_lock(&notify.lock);
	while (!notify.is_ending || is_news(&notify.news)) {
		struct news news = notify.news;

		if (!is_news(&news)) {
			g_cond_wait(&notify.changed, &notify.lock);
			continue;
		}
		notify.news = (struct news){0};
		g_mutex_unlock(&notify.lock);
		send_news(news);
		g_mutex_lock(&notify.lock);
	}
	notify.is_running = false;
	g_cond_signal(&notify.changed);
	g_mutex_unlock(&notify.lock);
	return NULL;
}

/* The loop */

/* Puts a text in the place of an older one that was not sent yet; or nothing, if nobody listens. */
static void tell(char **place, char *text)
{
	g_mutex_lock(&notify.lock);
	if (notify.is_running) {
		g_free(*place);
		*place = g_steal_pointer(&text);
	}
	g_cond_signal(&notify.changed);
	g_mutex_unlock(&notify.lock);
	g_free(text);
}

static void tell_that(bool *fact)
{
	g_mutex_lock(&notify.lock);
	*fact = true;
	g_cond_signal(&notify.changed);
	g_mutex_unlock(&notify.lock);
}

/* A sign that was not sent yet is not given twice: PID 1 is slow, and will not miss one. */
static void on_timer(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	(void)data;
	tell_that(&notify.news.is_alive);
}

static int begin_watchdog(struct event_base *base)
{
	struct timeval interval;
	uint64_t usec;

	if (sd_watchdog_enabled(0, &usec) <= 0)
		return 0;
	interval.tv_sec = usec / 3 / G_USEC_PER_SEC;
	interval.tv_usec = usec / 3 % G_USEC_PER_SEC;
	notify.timer = event_new(base, -1, EV_PERSIST, on_timer, NULL);
	return notify.timer && event_add(notify.timer, &interval) == 0 ? 0 : -ENOMEM;
}

int notify_begin(struct event_base *base)
{
	int r;

	if (!g_getenv("NOTIFY_SOCKET"))
		return 0;
	g_mutex_lock(&notify.lock);
	r = kernel->start_thread(in_thread, NULL);
	notify.is_running = r == 0;
	g_mutex_unlock(&notify.lock);
	return r < 0 ? r : begin_watchdog(base);
}

void notify_end(void)
{
	gint64 deadline = g_get_monotonic_time() + LAST_WORDS_USEC;

	g_clear_pointer(&notify.timer, event_free);
	g_mutex_lock(&notify.lock);
	notify.is_ending = true;
	g_cond_signal(&notify.changed);
	while (notify.is_running && g_cond_wait_until(&notify.changed, &notify.lock, deadline))
		;
	g_mutex_unlock(&notify.lock);
}

void notify_ready(void)
{
	tell_that(&notify.news.ready);
}

void notify_reloaded(void)
{
	/* systemd compares the time with that of its request. */
	tell(&notify.news.reloading,
	     g_strdup_printf("RELOADING=1\nMONOTONIC_USEC=%" PRId64, g_get_monotonic_time()));
}

void notify_status(char *text)
{
	tell(&notify.news.status, g_strconcat("STATUS=", text, NULL));
	g_free(text);
}

void notify_stopping(void)
{
	tell_that(&notify.news.stopping);
}
