/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads for what may block: daemon/worker.h. Ends are queued, and told by an eventfd. */
#include "daemon/worker.h"

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/kernel.h"

#define HANG_PATIENCE_USEC (500 * 1000) /* at the daemon's end */

struct work {
	void (*run)(void *data);
	void (*done)(void *data);
	void *data;
	bool may_hang;
};

static struct {
	GThreadPool *threads;
	GAsyncQueue *finished;
	struct event *event;
	int eventfd;
	unsigned int unfinished, hanging; /* the second may hang; counted in the loop's thread */
} worker = {.eventfd = -1};

static void work_in_thread(gpointer item, gpointer unused)
{
	struct work *work = item;

	(void)unused;
	work->run(work->data);
	g_async_queue_push(worker.finished, work);
	eventfd_write(worker.eventfd, 1);
}

static void tell_finished(void)
{
	struct work *work;

	while ((work = g_async_queue_try_pop(worker.finished))) {
		if (work->may_hang)
			worker.hanging--;
		else
			worker.unfinished--;
		if (work->done)
			work->done(work->data);
		g_free(work);
	}
}

static void on_finished(evutil_socket_t fd, short events, void *unused)
{
	eventfd_t count;

	(void)events;
	(void)unused;
	eventfd_read(fd, &count);
	tell_finished();
}

int worker_start(struct event_base *base)
{
	worker.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker.eventfd < 0)
		return -errno;
	worker.finished = g_async_queue_new();
	/*
	 * No limit on threads: a close that hangs (a peer can send such a descriptor) must not keep
	 * another's waiting. How many a user can hang is limited, see daemon/unwanted.h.
	 */
	worker.threads = g_thread_pool_new(work_in_thread, NULL, -1, FALSE, NULL);
	worker.event = event_new(base, worker.eventfd, EV_READ | EV_PERSIST, on_finished, NULL);
	event_add(worker.event, NULL);
	return 0;
}

static void wait_a_little(void)
{
	eventfd_t count;

	if (eventfd_read(worker.eventfd, &count) < 0)
		g_usleep(1000);
	tell_finished();
}

void worker_drain(void)
{
	while (worker.unfinished > 0)
		wait_a_little();
}

void worker_stop(void)
{
	gint64 deadline = g_get_monotonic_time() + HANG_PATIENCE_USEC;

	worker_drain();
	while (worker.hanging > 0 && g_get_monotonic_time() < deadline)
		wait_a_little();
	event_free(worker.event);
	close(worker.eventfd);
	/* Threads that hang have the rest until the process ends, and they with it. */
	if (worker.hanging > 0)
		return;
	g_thread_pool_free(worker.threads, FALSE, TRUE);
	g_async_queue_unref(worker.finished);
}

static void begin(struct work work)
{
	if (work.may_hang)
		worker.hanging++;
	else
		worker.unfinished++;
	g_thread_pool_push(worker.threads, g_memdup2(&work, sizeof(work)), NULL);
}

void worker_run(void (*run)(void *data), void (*done)(void *data), void *data)
{
	begin((struct work){run, done, data, false});
}

void worker_run_or_hang(void (*run)(void *data), void (*done)(void *data), void *data)
{
	begin((struct work){run, done, data, true});
}

struct closing {
	void (*done)(void *data);
	void *data;
	size_t n;
	int fds[];
};

static void close_in_thread(void *data)
{
	struct closing *closing = data;

	for (size_t i = 0; i < closing->n; i++)
		kernel->close(closing->fds[i]);
}

static void closing_done(void *data)
{
	struct closing *closing = data;

	if (closing->done)
		closing->done(closing->data);
	g_free(closing);
}

void worker_close_then(const int *fds, size_t n, void (*done)(void *data), void *data)
{
	struct closing *closing = g_malloc(sizeof(*closing) + n * sizeof(*fds));

	closing->done = done;
	closing->data = data;
	closing->n = n;
	if (n > 0)
		memcpy(closing->fds, fds, n * sizeof(*fds));
	begin((struct work){close_in_thread, closing_done, closing, false});
}

void worker_close(const int *fds, size_t n)
{
	worker_close_then(fds, n, NULL, NULL);
}

void worker_close_all(const int *fds, size_t n, void *unused)
{
	(void)unused;
	worker_close(fds, n);
}
