/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads in a user's name: daemon/errand.h. */
#include "daemon/errand.h"

#include <glib.h>

#include "daemon/account.h"
#include "daemon/worker.h"

/* A user who hangs more keeps waiting for its own, and takes no thread that others need. */
#define THREADS_PER_UID 256

struct errand {
	struct account *account; /* referenced */
	void (*work)(void *data);
	void (*done)(void *data);
	void *data;
};

static void in_thread(void *data)
{
	struct errand *errand = data;

	errand->work(errand->data);
}

static void on_done(void *data)
{
	struct errand *errand = data;
	struct errand *next = g_queue_pop_head(&errand->account->errands_waiting);

	if (next)
		worker_run_or_hang(in_thread, on_done, next);
	else
		errand->account->errands--;
	errand->done(errand->data);
	account_put(errand->account);
	g_free(errand);
}

void errand_run(struct account *account, void (*work)(void *data), void (*done)(void *data),
		void *data)
{
	struct errand *errand = g_new(struct errand, 1);

	account->references++;
	*errand = (struct errand){account, work, done, data};
	if (account->errands >= THREADS_PER_UID) {
		g_queue_push_tail(&account->errands_waiting, errand);
		return;
	}
	account->errands++;
	worker_run_or_hang(in_thread, on_done, errand);
}
