/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Closing in threads: daemon/worker.h. It is work like any other, and counted besides. */
#include <glib.h>
#include <string.h>

#include "daemon/kernel.h"
#include "daemon/worker.h"

struct closing {
	void (*by)(void *data); /* has what is to be closed in data; NULL: that is in fds */
	void (*done)(void *data);
	void *data;
	size_t n;
	int fds[];
};

static void close_in_thread(void *data)
{
	struct closing *closing = data;

	if (closing->by)
		closing->by(closing->data);
	for (size_t i = 0; i < closing->n; i++)
		kernel->close(closing->fds[i]);
}

static void closing_done(void *data)
{
	struct closing *closing = data;

	worker_closes--;
	if (closing->done)
		closing->done(closing->data);
	g_free(closing);
}

static void begin(struct closing *closing)
{
	worker_closes++;
	worker_run(close_in_thread, closing_done, closing);
}

void worker_close_then(const int *fds, size_t n, void (*done)(void *data), void *data)
{
	struct closing *closing = g_malloc(sizeof(*closing) + n * sizeof(*fds));

	*closing = (struct closing){.done = done, .data = data, .n = n};
	if (n > 0)
		memcpy(closing->fds, fds, n * sizeof(*fds));
	begin(closing);
}

void worker_close_by(void (*by)(void *data), void *data)
{
	struct closing *closing = g_new0(struct closing, 1);

	closing->by = by;
	closing->data = data;
	begin(closing);
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
