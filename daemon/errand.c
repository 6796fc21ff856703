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

/* Of the address spaces of orphans. Whoever would hang these needs a device, as few users have one. */
#define SETTLE_PER_UID	 8
#define SETTLE_OF_ROOT	 64
#define SETTLE_OF_OTHERS 64
#define SETTLE_FOR_FIRST 128

/* Of work that ends by itself: it waits for nothing but a processor, so that more would be no use. */
#define SHORT_PER_UID	2
#define SHORT_OF_ROOT	4
#define SHORT_OF_OTHERS 16

/* Of looks into /proc: a user keeps those of everybody waiting, if anybody's. */
#define LOOKS_PER_UID	1
#define LOOKS_OF_ROOT	2
#define LOOKS_OF_OTHERS 16
#define LOOKS_WAITING	8192 /* of a user; each is some 100 bytes */

static struct kind {
	unsigned int per_uid, of_root, of_others, for_first;
	void (*run)(void (*work)(void *data), void (*done)(void *data), void *data);
	unsigned int others;  /* threads of all users but root */
	GQueue waiting_users; /* of struct account: their errands hold references */
} kinds[] = {
	[ERRAND_MAY_HANG] = {.per_uid = THREADS_PER_UID,
			     .of_root = THREADS_OF_ROOT,
			     .of_others = THREADS_OF_OTHERS,
			     .for_first = THREADS_FOR_FIRST,
			     .run = worker_run_or_hang},
	[ERRAND_SETTLE] = {.per_uid = SETTLE_PER_UID,
			   .of_root = SETTLE_OF_ROOT,
			   .of_others = SETTLE_OF_OTHERS,
			   .for_first = SETTLE_FOR_FIRST,
			   .run = worker_run_or_hang},
	[ERRAND_SHORT] = {.per_uid = SHORT_PER_UID,
			  .of_root = SHORT_OF_ROOT,
			  .of_others = SHORT_OF_OTHERS,
			  .run = worker_run},
	[ERRAND_LOOK_UP] = {.per_uid = LOOKS_PER_UID,
			    .of_root = LOOKS_OF_ROOT,
			    .of_others = LOOKS_OF_OTHERS,
			    .run = worker_run_or_hang},
};

struct errand {
	struct account *account; /* referenced */
	enum errand_kind kind;
	void (*work)(void *data);
	void (*done)(void *data);
	void *data;
};

static void in_thread(void *data)
{
	struct errand *errand = data;

	errand->work(errand->data);
}

static bool may_begin(const struct account *account, enum errand_kind which)
{
	const struct kind *kind = &kinds[which];
	unsigned int own = account->errands[which];

	if (account->uid == 0)
		return own < kind->of_root;
	if (own == 0)
		return kind->others < kind->of_others + kind->for_first;
	return own < kind->per_uid && kind->others < kind->of_others;
}

static void on_done(void *data);

static void begin(struct errand *errand)
{
	struct kind *kind = &kinds[errand->kind];

	errand->account->errands[errand->kind]++;
	if (errand->account->uid != 0)
		kind->others++;
	kind->run(in_thread, on_done, errand);
}

static void wait_for_thread(struct errand *errand)
{
	GQueue *waiting = &errand->account->errands_waiting[errand->kind];

	g_queue_push_tail(waiting, errand);
	if (waiting->length == 1)
		g_queue_push_tail(&kinds[errand->kind].waiting_users, errand->account);
}

/* Threads have become free: one errand of each user who may, and who has waited longest goes first. */
static void begin_waiting(enum errand_kind which)
{
	GQueue *users = &kinds[which].waiting_users;
	guint n = users->length;

	while (n-- > 0) {
		struct account *account = g_queue_pop_head(users);
		GQueue *waiting = &account->errands_waiting[which];

		/* Its account may go with the errand, so it goes back to the queue first. */
		if (waiting->length > 1 || !may_begin(account, which))
			g_queue_push_tail(users, account);
		if (may_begin(account, which))
			begin(g_queue_pop_head(waiting));
	}
}

static void on_done(void *data)
{
	struct errand *errand = data;

	errand->account->errands[errand->kind]--;
	if (errand->account->uid != 0)
		kinds[errand->kind].others--;
	begin_waiting(errand->kind);
	errand->done(errand->data);
	account_put(errand->account);
	g_free(errand);
}

static void run(struct account *account, enum errand_kind kind, void (*work)(void *data),
		void (*done)(void *data), void *data)
{
	struct errand *errand = g_new(struct errand, 1);

	account->references++;
	*errand = (struct errand){account, kind, work, done, data};
	if (account->errands_waiting[kind].length > 0 || !may_begin(account, kind))
		wait_for_thread(errand);
	else
		begin(errand);
}

void errand_run(struct account *account, void (*work)(void *data), void (*done)(void *data),
		void *data)
{
	run(account, ERRAND_MAY_HANG, work, done, data);
}

void errand_run_settling(struct account *account, void (*work)(void *data),
			 void (*done)(void *data), void *data)
{
	run(account, ERRAND_SETTLE, work, done, data);
}

void errand_run_short(struct account *account, void (*work)(void *data), void (*done)(void *data),
		      void *data)
{
	run(account, ERRAND_SHORT, work, done, data);
}

bool errand_run_look_up(struct account *account, void (*work)(void *data), void (*done)(void *data),
			void *data)
{
	if (account->errands_waiting[ERRAND_LOOK_UP].length >= LOOKS_WAITING)
		return false;
	run(account, ERRAND_LOOK_UP, work, done, data);
	return true;
}
