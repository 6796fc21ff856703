/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads in a user's name: daemon/errand.h. */
#include "daemon/errand.h"

#include <glib.h>

#include "daemon/account.h"
#include "daemon/worker.h"

/* A user who hangs more keeps waiting for its own, and takes no thread that others need. */
#define THREADS_PER_UID 48
#define THREADS_OF_ROOT 256
/* One user can be many (subuid), so there is a limit on all but root; the rest of it, one for each. */
#define THREADS_OF_OTHERS 192
#define THREADS_FOR_FIRST 64

struct errand {
	struct account *account; /* referenced */
	void (*work)(void *data);
	void (*done)(void *data);
	void *data;
};

static unsigned int others;  /* threads of all users but root */
static GQueue waiting_users; /* of struct account: their errands hold references */

static void in_thread(void *data)
{
	struct errand *errand = data;

	errand->work(errand->data);
}

static bool may_begin(const struct account *account)
{
	if (account->uid == 0)
		return account->errands < THREADS_OF_ROOT;
	if (account->errands == 0)
		return others < THREADS_OF_OTHERS + THREADS_FOR_FIRST;
	return account->errands < THREADS_PER_UID && others < THREADS_OF_OTHERS;
}

static void on_done(void *data);

static void begin(struct errand *errand)
{
	errand->account->errands++;
	if (errand->account->uid != 0)
		others++;
	worker_run_or_hang(in_thread, on_done, errand);
}

static void wait_for_thread(struct errand *errand)
{
	struct account *account = errand->account;

	g_queue_push_tail(&account->errands_waiting, errand);
	if (account->errands_waiting.length == 1)
		g_queue_push_tail(&waiting_users, account);
}

/* Threads have become free: one errand of each user who may, and who has waited longest goes first. */
static void begin_waiting(void)
{
	guint n = waiting_users.length;

	while (n-- > 0) {
		struct account *account = g_queue_pop_head(&waiting_users);

		/* Its account may go with the errand, so it goes back to the queue first. */
		if (account->errands_waiting.length > 1 || !may_begin(account))
			g_queue_push_tail(&waiting_users, account);
		if (may_begin(account))
			begin(g_queue_pop_head(&account->errands_waiting));
	}
}

static void on_done(void *data)
{
	struct errand *errand = data;

	errand->account->errands--;
	if (errand->account->uid != 0)
		others--;
	begin_waiting();
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
	if (account->errands_waiting.length > 0 || !may_begin(account))
		wait_for_thread(errand);
	else
		begin(errand);
}
