/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A look at a process in /proc that its user holds up (daemon/unitlook.h). libsystemd is made up. */
#include "daemon/unitlook.h"

#include <event2/event.h>
#include <glib.h>
#include <string.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "daemon/account.h"
#include "daemon/errand.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

#define HELD_UP 1001 /* a user */
#define OTHER	1002

static struct event_base *base;
static GMutex lock;
static GCond changed;
static bool held_up;
static int looking;
static GPtrArray *told;

/* Waits as long as the lock of the process's directory is held. */
int sd_pid_get_unit(pid_t pid, char **ret_unit)
{
	(void)pid;
	g_mutex_lock(&lock);
	looking++;
	g_cond_broadcast(&changed);
	while (held_up)
		g_cond_wait(&changed, &lock);
	g_mutex_unlock(&lock);
	*ret_unit = strdup("vm.service");
	return 0;
}

static void tell(void *data, char *unit)
{
	(void)data;
	g_ptr_array_add(told, unit);
}

static struct unit_look *look(uid_t uid)
{
	struct account *account = account_get(uid);
	struct unit_look *begun = unit_look_begin(account, getpid(), tell, NULL);

	account_put(account);
	return begun;
}

static void wait_for_looking(int n)
{
	g_mutex_lock(&lock);
	while (looking < n)
		g_cond_wait(&changed, &lock);
	g_mutex_unlock(&lock);
}

static void hold_up(bool up)
{
	g_mutex_lock(&lock);
	held_up = up;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
}

static void wait_for_told(guint n)
{
	while (told->len < n)
		event_base_loop(base, EVLOOP_ONCE);
}

static void setup(void)
{
	base = event_base_new();
	ck_assert_int_eq(worker_start(base), 0);
	told = g_ptr_array_new_with_free_func(g_free);
}

static void teardown(void)
{
	ck_assert(worker_stop());
	event_base_free(base);
	g_ptr_array_unref(told);
}

START_TEST(a_unit_is_told_in_the_loop)
{
	look(OTHER);
	ck_assert_uint_eq(told->len, 0);
	wait_for_told(1);
	ck_assert_str_eq(told->pdata[0], "vm.service");
}
END_TEST

START_TEST(one_that_hangs_holds_up_neither_the_loop_nor_others)
{
	hold_up(true);
	look(HELD_UP);
	wait_for_looking(1);
	/* The loop was not waiting for it; and what others ask for begins beside it. */
	look(OTHER);
	wait_for_looking(2);
	ck_assert_uint_eq(told->len, 0);
	hold_up(false);
	wait_for_told(2);
}
END_TEST

static void nothing(void *data)
{
	++*(int *)data;
}

START_TEST(looks_that_hang_keep_none_of_the_users_closes_waiting)
{
	struct account *account = account_get(HELD_UP);
	int done = 0;

	hold_up(true);
	for (int i = 0; i < 100; i++)
		look(HELD_UP);
	ck_assert(unit_looks_wait(account));
	errand_run(account, nothing, nothing, &done);
	while (done < 2)
		event_base_loop(base, EVLOOP_ONCE);
	hold_up(false);
	wait_for_told(100);
	ck_assert(!unit_looks_wait(account));
	account_put(account);
}
END_TEST

START_TEST(of_looks_that_hang_no_more_than_so_many_wait)
{
	struct account *account = account_get(HELD_UP);
	int n = 0;

	hold_up(true);
	while (n < 20000 && unit_look_begin(account, getpid(), tell, NULL))
		n++;
	ck_assert_int_gt(n, 4096);
	ck_assert_int_lt(n, 20000);
	hold_up(false);
	wait_for_told(n);
	account_put(account);
}
END_TEST

START_TEST(one_that_is_dropped_tells_nobody)
{
	struct unit_look *dropped;

	hold_up(true);
	dropped = look(HELD_UP);
	wait_for_looking(1);
	unit_look_drop(dropped);
	hold_up(false);
	look(HELD_UP);
	wait_for_told(1);
	ck_assert(worker_drain());
	ck_assert_uint_eq(told->len, 1);
}
END_TEST

SUITE("unitlook", setup, teardown)
{
	tcase_add_test(tests, a_unit_is_told_in_the_loop);
	tcase_add_test(tests, one_that_hangs_holds_up_neither_the_loop_nor_others);
	tcase_add_test(tests, looks_that_hang_keep_none_of_the_users_closes_waiting);
	tcase_add_test(tests, of_looks_that_hang_no_more_than_so_many_wait);
	tcase_add_test(tests, one_that_is_dropped_tells_nobody);
}
