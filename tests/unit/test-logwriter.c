/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages for whoever does not take them: nobody waits, and what is lost is counted and told. */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/logwriter.h"
#include "tests/unit/suite.h"

static GMutex lock;
static GCond changed;
static bool gate_is_open, is_full;
static GPtrArray *written;

static const char *text_of(const GLogField *fields, gsize n)
{
	for (gsize i = 0; i < n; i++)
		if (strcmp(fields[i].key, "MESSAGE") == 0)
			return fields[i].value;
	return "no message";
}

static bool take(GLogLevelFlags level, const GLogField *fields, gsize n)
{
	bool is_taken;

	(void)level;
	g_mutex_lock(&lock);
	while (!gate_is_open)
		g_cond_wait(&changed, &lock);
	is_taken = !is_full;
	if (is_taken)
		g_ptr_array_add(written, g_strdup(text_of(fields, n)));
	g_mutex_unlock(&lock);
	return is_taken;
}

static void set(bool *condition, bool value)
{
	g_mutex_lock(&lock);
	*condition = value;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
}

static void say(const char *text)
{
	const GLogField fields[] = {{"PRIORITY", "4", -1}, {"MESSAGE", text, -1}};

	ck_assert(logwriter_put(G_LOG_LEVEL_WARNING, fields, G_N_ELEMENTS(fields)));
}

static void say_number(int i)
{
	g_autofree char *text = g_strdup_printf("%d", i);

	say(text);
}

static void flush(void)
{
	logwriter_flush(60 * G_USEC_PER_SEC);
}

static const char *line(guint i)
{
	ck_assert_int_lt(i, written->len);
	return g_ptr_array_index(written, i);
}

static void setup(void)
{
	written = g_ptr_array_new_with_free_func(g_free);
	gate_is_open = true;
	is_full = false;
	ck_assert_int_eq(logwriter_start(take), 0);
}

static void teardown(void)
{
	set(&gate_is_open, true);
	logwriter_stop(60 * G_USEC_PER_SEC);
	g_ptr_array_unref(written);
}

START_TEST(messages_are_copied_and_keep_their_order)
{
	for (int i = 0; i < 1000; i++)
		say_number(i);
	flush();
	ck_assert_int_eq(written->len, 1000);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(atoi(line(i)), i);
}
END_TEST

START_TEST(if_nobody_takes_them_nobody_waits_and_the_lost_are_told_in_their_place)
{
	unsigned int lost;

	set(&gate_is_open, false);
	for (int i = 0; i < 10000; i++)
		say_number(i);
	set(&gate_is_open, true);
	flush();
	say("after");
	flush();
	for (guint i = 0; i < written->len - 2; i++)
		ck_assert_int_eq(atoi(line(i)), (int)i);
	ck_assert_int_eq(sscanf(line(written->len - 2), "%u messages were lost", &lost), 1);
	ck_assert_int_eq(lost, 10000 - (written->len - 2));
	ck_assert_str_eq(line(written->len - 1), "after");
}
END_TEST

START_TEST(what_waits_is_bounded_by_its_size_too)
{
	g_autofree char *text = g_strnfill(100 * 1000, 'x');

	set(&gate_is_open, false);
	for (int i = 0; i < 100; i++)
		say(text);
	set(&gate_is_open, true);
	flush();
	ck_assert_int_lt(written->len, 15);
	ck_assert(g_str_has_suffix(line(written->len - 1), "lost while the log took none"));
}
END_TEST

/* A full disk. */
START_TEST(what_could_not_be_written_is_told_before_what_can)
{
	set(&is_full, true);
	say("1");
	say("2");
	flush();
	set(&is_full, false);
	say("3");
	flush();
	ck_assert_int_eq(written->len, 2);
	ck_assert(g_str_has_prefix(line(0), "2 messages were lost"));
	ck_assert_str_eq(line(1), "3");
}
END_TEST

START_TEST(the_end_waits_for_a_moment_and_not_for_ever)
{
	set(&gate_is_open, false);
	say("1");
	logwriter_flush(1);
	logwriter_stop(1);
	say("2"); /* is dropped, and does not block */
	ck_assert_int_eq(written->len, 0);
}
END_TEST

START_TEST(the_end_comes_after_all_that_was_said)
{
	for (int i = 0; i < 1000; i++)
		say_number(i);
	logwriter_stop(60 * G_USEC_PER_SEC);
	ck_assert_int_eq(written->len, 1000);
	ck_assert(!logwriter_put(G_LOG_LEVEL_WARNING, NULL, 0));
}
END_TEST

static void *say_much(void *unused)
{
	(void)unused;
	for (int i = 0; i < 500; i++)
		say("x");
	return NULL;
}

START_TEST(any_thread_may_say_something)
{
	GThread *threads[4];

	for (int i = 0; i < 4; i++)
		threads[i] = g_thread_new(NULL, say_much, NULL);
	for (int i = 0; i < 4; i++)
		g_thread_join(threads[i]);
	flush();
	ck_assert_int_eq(written->len, 2000);
}
END_TEST

SUITE("logwriter", setup, teardown)
{
	tcase_add_test(tests, messages_are_copied_and_keep_their_order);
	tcase_add_test(tests,
		       if_nobody_takes_them_nobody_waits_and_the_lost_are_told_in_their_place);
	tcase_add_test(tests, what_waits_is_bounded_by_its_size_too);
	tcase_add_test(tests, what_could_not_be_written_is_told_before_what_can);
	tcase_add_test(tests, the_end_waits_for_a_moment_and_not_for_ever);
	tcase_add_test(tests, the_end_comes_after_all_that_was_said);
	tcase_add_test(tests, any_thread_may_say_something);
}
