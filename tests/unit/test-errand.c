/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errands that hang take threads of their user's alone (daemon/errand.h). */
#include "daemon/errand.h"

#include <glib.h>

#include "daemon/account.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

#define USER_MAX   48  /* threads of a user */
#define OTHERS_MAX 192 /* of all but root, but for the first of each */
#define FIRST_MAX  64

static struct event_base *base;
static GMutex lock;
static GCond changed;
static bool gate_is_open;
static int started, done;

static void hang(void *data)
{
	(void)data;
	g_mutex_lock(&lock);
	started++;
	g_cond_broadcast(&changed);
	while (!gate_is_open)
		g_cond_wait(&changed, &lock);
	g_mutex_unlock(&lock);
}

static void count_done(void *data)
{
	(void)data;
	done++;
}

static void run(uid_t uid, int n)
{
	struct account *account = account_get(uid);

	for (int i = 0; i < n; i++)
		errand_run(account, hang, count_done, NULL);
	account_put(account);
}

/* Waits for so many threads to begin. More would begin, if they may, after a moment at most. */
static void wait_for_started(int n)
{
	g_mutex_lock(&lock);
	while (started < n)
		g_cond_wait(&changed, &lock);
	g_mutex_unlock(&lock);
}

static void end_all(int n)
{
	g_mutex_lock(&lock);
	gate_is_open = true;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
	while (done < n)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(started, n);
}

static void setup(void)
{
	base = event_base_new();
	started = done = 0;
	gate_is_open = false;
	ck_assert_int_eq(worker_start(base), 0);
}

static void teardown(void)
{
	worker_stop();
	event_base_free(base);
}

static unsigned int threads_of(uid_t uid)
{
	struct account *account = account_get(uid);
	unsigned int n = account->errands[ERRAND_MAY_HANG];

	account_put(account);
	return n;
}

START_TEST(a_user_who_hangs_all_of_its_threads_keeps_no_other_waiting)
{
	run(1, USER_MAX + 10);
	run(2, 1);
	wait_for_started(USER_MAX + 1);
	ck_assert_uint_eq(threads_of(1), USER_MAX);
	end_all(USER_MAX + 11);
	ck_assert_uint_eq(threads_of(1), 0);
}
END_TEST

START_TEST(users_who_hang_all_threads_leave_one_for_each_user_and_all_of_roots)
{
	for (uid_t uid = 1; uid <= 10; uid++)
		run(uid, USER_MAX);
	wait_for_started(OTHERS_MAX + 6);
	run(100, 2);
	run(0, 20);
	wait_for_started(OTHERS_MAX + 6 + 1 + 20);
	ck_assert_uint_eq(threads_of(100), 1);
	ck_assert_uint_eq(threads_of(0), 20);
	end_all(10 * USER_MAX + 22);
}
END_TEST

START_TEST(many_users_get_no_more_threads_than_that)
{
	for (uid_t uid = 1; uid <= 1000; uid++)
		run(uid, 2);
	wait_for_started(OTHERS_MAX + FIRST_MAX);
	ck_assert_uint_eq(threads_of(1000), 0);
	run(0, 1);
	wait_for_started(OTHERS_MAX + FIRST_MAX + 1);
	end_all(2001);
}
END_TEST

static int short_done;

static void do_nothing(void *data)
{
	(void)data;
}

static void count_short(void *data)
{
	(void)data;
	short_done++;
}

START_TEST(what_ends_by_itself_waits_for_nothing_that_hangs)
{
	short_done = 0;
	for (uid_t uid = 1; uid <= 1000; uid++)
		run(uid, 1);
	wait_for_started(OTHERS_MAX + FIRST_MAX);
	for (uid_t uid = 1; uid <= 2000; uid++) {
		struct account *account = account_get(uid);

		for (int i = 0; i < 3; i++)
			errand_run_short(account, do_nothing, count_short, NULL);
		account_put(account);
	}
	while (short_done < 3 * 2000)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(threads_of(1000), 0);
	end_all(1000);
}
END_TEST

/* Uids are cheap, and each has one thread of its own at first: even then a claim does not wait. */
START_TEST(an_orphan_is_settled_while_all_users_hang_all_that_they_can)
{
	struct account *account = account_get(5000);

	short_done = 0;
	for (uid_t uid = 1; uid <= 1000; uid++)
		run(uid, 1);
	wait_for_started(OTHERS_MAX + FIRST_MAX);
	errand_run(account, do_nothing, count_done, NULL);
	errand_run_settling(account, do_nothing, count_short, NULL);
	while (short_done < 1)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(done, 0);
	account_put(account);
	g_mutex_lock(&lock);
	gate_is_open = true;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
	while (done < 1001)
		event_base_loop(base, EVLOOP_ONCE);
}
END_TEST

SUITE("errand", setup, teardown)
{
	tcase_add_test(tests, an_orphan_is_settled_while_all_users_hang_all_that_they_can);
	tcase_add_test(tests, what_ends_by_itself_waits_for_nothing_that_hangs);
	tcase_add_test(tests, a_user_who_hangs_all_of_its_threads_keeps_no_other_waiting);
	tcase_add_test(tests, users_who_hang_all_threads_leave_one_for_each_user_and_all_of_roots);
	tcase_add_test(tests, many_users_get_no_more_threads_than_that);
}
