/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * daemon/worker.h without threads, linked in the place of the daemon's: work is done in the loop, in
 * its order, in a later turn. So a run of a fuzzer is the same each time, and fast.
 */
#include "daemon/worker.h"

#include <glib.h>

struct work {
	void (*run)(void *data);
	void (*done)(void *data);
	void *data;
};

gint64 worker_patience_usec;
unsigned int worker_closes;

static struct {
	GQueue queue;
	struct event *event;
} worker = {.queue = G_QUEUE_INIT};

static void do_one(void)
{
	struct work *work = g_queue_pop_head(&worker.queue);

	work->run(work->data);
	if (work->done)
		work->done(work->data);
	g_free(work);
}

static void on_event(evutil_socket_t fd, short events, void *unused)
{
	(void)fd;
	(void)events;
	(void)unused;
	if (!g_queue_is_empty(&worker.queue))
		do_one();
	if (!g_queue_is_empty(&worker.queue))
		event_active(worker.event, EV_TIMEOUT, 0);
}

int worker_start(struct event_base *base)
{
	worker.event = event_new(base, -1, 0, on_event, NULL);
	return 0;
}

bool worker_drain(void)
{
	while (!g_queue_is_empty(&worker.queue))
		do_one();
	return true;
}

void worker_wait_for_hanging(void)
{
}

bool worker_stop(void)
{
	worker_drain();
	event_free(worker.event);
	return true;
}

void worker_run(void (*run)(void *data), void (*done)(void *data), void *data)
{
	struct work work = {run, done, data};

	g_queue_push_tail(&worker.queue, g_memdup2(&work, sizeof(work)));
	event_active(worker.event, EV_TIMEOUT, 0);
}

void worker_run_or_hang(void (*run)(void *data), void (*done)(void *data), void *data)
{
	worker_run(run, done, data);
}
