/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work in threads: its end comes in the loop, none waits for another, and none is left at the end. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/kernel.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

static struct event_base *base;
static GThread *loop_thread;
static GMutex lock;
static GCond changed;
static int ran, done, closed[64], n_closed;
static bool gate_is_open;

static void wait_at_gate(void *data)
{
	(void)data;
	g_mutex_lock(&lock);
	while (!gate_is_open)
		g_cond_wait(&changed, &lock);
	g_mutex_unlock(&lock);
}

#define HANGING_FD 999

static int fake_close(int fd)
{
	ck_assert_ptr_ne(g_thread_self(), loop_thread);
	if (fd == HANGING_FD)
		wait_at_gate(NULL);
	g_mutex_lock(&lock);
	closed[n_closed++] = fd;
	g_mutex_unlock(&lock);
	return 0;
}

static bool are_threads_short;
static int n_refused;

static int fake_start_thread(void *(*run)(void *data), void *data)
{
	if (are_threads_short) {
		n_refused++;
		return -EAGAIN;
	}
	return kernel_real.start_thread(run, data);
}

static const struct kernel_ops fake = {.close = fake_close, .start_thread = fake_start_thread};

static void setup(void)
{
	kernel = &fake;
	base = event_base_new();
	loop_thread = g_thread_self();
	ran = done = n_closed = 0;
	gate_is_open = are_threads_short = false;
	n_refused = 0;
	ck_assert_int_eq(worker_start(base), 0);
}

static void teardown(void)
{
	worker_stop();
	event_base_free(base);
}

static void count_run(void *data)
{
	ck_assert_ptr_ne(g_thread_self(), loop_thread);
	g_atomic_int_add(&ran, GPOINTER_TO_INT(data));
}

static void count_done(void *data)
{
	ck_assert_ptr_eq(g_thread_self(), loop_thread);
	done += GPOINTER_TO_INT(data);
}

static void open_gate(void)
{
	g_mutex_lock(&lock);
	gate_is_open = true;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
}

static void loop_until(const int *value, int wanted)
{
	while (*value != wanted)
		event_base_loop(base, EVLOOP_ONCE);
}

START_TEST(work_runs_in_a_thread_and_its_end_in_the_loop)
{
	worker_run(count_run, count_done, GINT_TO_POINTER(1));
	ck_assert_int_eq(done, 0);
	loop_until(&done, 1);
	ck_assert_int_eq(ran, 1);
}
END_TEST

START_TEST(much_work_is_all_done)
{
	for (int i = 0; i < 500; i++)
		worker_run(count_run, count_done, GINT_TO_POINTER(1));
	loop_until(&done, 500);
	ck_assert_int_eq(ran, 500);
}
END_TEST

START_TEST(work_that_hangs_keeps_no_other_waiting)
{
	for (int i = 0; i < 20; i++)
		worker_run(wait_at_gate, count_done, GINT_TO_POINTER(100));
	worker_run(count_run, count_done, GINT_TO_POINTER(1));
	loop_until(&done, 1);
	open_gate();
	loop_until(&done, 2001);
}
END_TEST

static void run_more(void *data)
{
	count_done(data);
	worker_run(count_run, count_done, data);
}

START_TEST(the_end_of_work_may_begin_more)
{
	worker_run(count_run, run_more, GINT_TO_POINTER(1));
	loop_until(&done, 2);
	ck_assert_int_eq(ran, 2);
}
END_TEST

START_TEST(draining_waits_for_all_work_and_what_that_begins)
{
	for (int i = 0; i < 10; i++)
		worker_run(count_run, run_more, GINT_TO_POINTER(1));
	worker_drain();
	ck_assert_int_eq(done, 20);
	ck_assert_int_eq(ran, 20);
	worker_drain();
	worker_run(count_run, count_done, GINT_TO_POINTER(1));
	loop_until(&done, 21);
}
END_TEST

START_TEST(stopping_waits_for_all_work)
{
	worker_run(count_run, run_more, GINT_TO_POINTER(1));
	worker_stop();
	ck_assert_int_eq(done, 2);
	ck_assert_int_eq(worker_start(base), 0);
}
END_TEST

START_TEST(descriptors_are_closed_in_order_and_then_it_is_told)
{
	int fds[] = {900, 901, 902, 903};

	worker_close_then(fds, 4, count_done, GINT_TO_POINTER(1));
	memset(fds, 0, sizeof(fds)); /* they were copied */
	loop_until(&done, 1);
	ck_assert_int_eq(n_closed, 4);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(closed[i], 900 + i);
}
END_TEST

START_TEST(closing_nothing_is_told_too)
{
	worker_close_then(NULL, 0, count_done, GINT_TO_POINTER(1));
	loop_until(&done, 1);
	ck_assert_int_eq(n_closed, 0);
}
END_TEST

START_TEST(a_close_that_nobody_waits_for_happens)
{
	const int fd = 900;

	worker_close(&fd, 1);
	worker_drain();
	ck_assert_int_eq(n_closed, 1);
}
END_TEST

START_TEST(work_that_hangs_is_told_when_it_ends_and_draining_does_not_wait_for_it)
{
	worker_run_or_hang(wait_at_gate, count_done, GINT_TO_POINTER(100));
	worker_run(count_run, count_done, GINT_TO_POINTER(1));
	worker_drain();
	ck_assert_int_eq(done, 1);
	open_gate();
	loop_until(&done, 101);
}
END_TEST

/* Threads are short */

static int n_warnings;

static GLogWriterOutput count_warning(GLogLevelFlags level, const GLogField *fields, gsize n,
				      gpointer unused)
{
	(void)fields;
	(void)n;
	(void)unused;
	n_warnings += level == G_LOG_LEVEL_WARNING;
	return G_LOG_WRITER_HANDLED;
}

START_TEST(it_does_not_start_without_the_threads_that_must_be_there)
{
	worker_stop();
	are_threads_short = true;
	ck_assert_int_eq(worker_start(base), -EAGAIN);
	are_threads_short = false;
	ck_assert_int_eq(worker_start(base), 0);
}
END_TEST

START_TEST(without_new_threads_all_work_is_done_and_one_warning_given)
{
	g_log_set_writer_func(count_warning, NULL, NULL);
	are_threads_short = true;
	for (int i = 0; i < 100; i++) {
		worker_run(count_run, count_done, GINT_TO_POINTER(1));
		worker_run_or_hang(count_run, count_done, GINT_TO_POINTER(1));
	}
	loop_until(&done, 200);
	ck_assert_int_gt(n_refused, 0);
	ck_assert_int_eq(n_warnings, 1);
}
END_TEST

START_TEST(without_new_threads_ordinary_work_does_not_wait_for_what_hangs)
{
	g_log_set_writer_func(count_warning, NULL, NULL);
	are_threads_short = true;
	for (int i = 0; i < 10; i++)
		worker_run_or_hang(wait_at_gate, count_done, GINT_TO_POINTER(100));
	for (int i = 0; i < 10; i++)
		worker_run(count_run, count_done, GINT_TO_POINTER(1));
	loop_until(&done, 10);
	worker_drain();
	for (int i = 0; i < 10; i++)
		worker_run(count_run, count_done, GINT_TO_POINTER(1));
	loop_until(&done, 20);
	open_gate();
	loop_until(&done, 1020);
}
END_TEST

/* Nothing new comes that would make it look again. */
START_TEST(threads_are_tried_for_again_while_work_waits)
{
	g_log_set_writer_func(count_warning, NULL, NULL);
	are_threads_short = true;
	for (int i = 0; i < 10; i++)
		worker_run(wait_at_gate, count_done, GINT_TO_POINTER(100));
	worker_run(count_run, count_done, GINT_TO_POINTER(1));
	while (n_refused < 3)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(n_warnings, 1);
	ck_assert_int_eq(done, 0);
	are_threads_short = false;
	loop_until(&done, 1);
	open_gate();
	loop_until(&done, 1001);
}
END_TEST

static int threads(void)
{
	GDir *tasks = g_dir_open("/proc/self/task", 0, NULL);
	int n = 0;

	while (g_dir_read_name(tasks))
		n++;
	g_dir_close(tasks);
	return n;
}

START_TEST(threads_that_have_no_work_are_given_back)
{
	int before = threads();

	for (int i = 0; i < 50; i++)
		worker_run_or_hang(wait_at_gate, count_done, GINT_TO_POINTER(1));
	while (threads() < before + 49)
		g_usleep(1000);
	open_gate();
	loop_until(&done, 50);
	while (threads() != before)
		g_usleep(1000);
	worker_run_or_hang(count_run, count_done, GINT_TO_POINTER(1));
	loop_until(&done, 51);
}
END_TEST

START_TEST(the_end_does_not_wait_for_ever_for_ordinary_work)
{
	g_log_set_writer_func(count_warning, NULL, NULL);
	worker_patience_usec = G_USEC_PER_SEC / 10;
	worker_run(wait_at_gate, count_done, GINT_TO_POINTER(1));
	ck_assert(!worker_drain());
	ck_assert(!worker_stop());
	ck_assert_int_eq(n_warnings, 2);
	worker_patience_usec = 60 * G_USEC_PER_SEC;
	open_gate();
	ck_assert(worker_drain());
	ck_assert_int_eq(done, 1);
}
END_TEST

SUITE("worker", setup, teardown)
{
	tcase_add_test(tests, work_runs_in_a_thread_and_its_end_in_the_loop);
	tcase_add_test(tests, much_work_is_all_done);
	tcase_add_test(tests, work_that_hangs_keeps_no_other_waiting);
	tcase_add_test(tests, the_end_of_work_may_begin_more);
	tcase_add_test(tests, draining_waits_for_all_work_and_what_that_begins);
	tcase_add_test(tests, stopping_waits_for_all_work);
	tcase_add_test(tests, descriptors_are_closed_in_order_and_then_it_is_told);
	tcase_add_test(tests, closing_nothing_is_told_too);
	tcase_add_test(tests, a_close_that_nobody_waits_for_happens);
	tcase_add_test(tests,
		       work_that_hangs_is_told_when_it_ends_and_draining_does_not_wait_for_it);
	tcase_add_test(tests, it_does_not_start_without_the_threads_that_must_be_there);
	tcase_add_test(tests, without_new_threads_all_work_is_done_and_one_warning_given);
	tcase_add_test(tests, without_new_threads_ordinary_work_does_not_wait_for_what_hangs);
	tcase_add_test(tests, threads_are_tried_for_again_while_work_waits);
	tcase_add_test(tests, threads_that_have_no_work_are_given_back);
	tcase_add_test(tests, the_end_does_not_wait_for_ever_for_ordinary_work);
}
