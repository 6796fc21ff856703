/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How often a user may make PID 1 work (daemon/pace.h), on a clock of the test's own. */
#include "daemon/pace.h"
#include "tests/unit/suite.h"

#define SECOND G_USEC_PER_SEC
#define BURST  64
#define RATE   16

/* How long n more have to wait: the last of them. */
static gint64 wait_of(uid_t uid, gint64 now, unsigned int n)
{
	gint64 wait = 0;
	bool taken;

	while (n-- > 0)
		wait = pace_next(uid, now, &taken);
	return wait;
}

START_TEST(a_burst_at_once_and_then_sixteen_each_second)
{
	ck_assert_int_eq(wait_of(1, SECOND, BURST), 0);
	ck_assert_int_eq(wait_of(1, SECOND, 1), SECOND / RATE);
	ck_assert_int_eq(wait_of(1, SECOND, RATE), SECOND + SECOND / RATE);
}
END_TEST

START_TEST(who_waits_has_a_place_and_need_not_ask_again)
{
	bool taken;

	wait_of(1, 0, BURST);
	ck_assert_int_eq(pace_next(1, 0, &taken), SECOND / RATE);
	ck_assert(taken);
	ck_assert_int_eq(pace_next(1, SECOND / RATE, &taken), SECOND / RATE);
}
END_TEST

START_TEST(places_are_given_a_few_seconds_ahead_and_no_further)
{
	bool taken;

	ck_assert_int_eq(wait_of(1, 0, 100000), 4 * SECOND);
	ck_assert_int_eq(pace_next(1, 0, &taken), 4 * SECOND);
	ck_assert(!taken);
	/* So nobody is in debt for long. */
	ck_assert_int_eq(wait_of(1, 8 * SECOND, BURST), 0);
}
END_TEST

START_TEST(root_and_other_users_do_not_wait)
{
	wait_of(1, 0, 100000);
	ck_assert_int_eq(wait_of(0, 0, 100000), 0);
	ck_assert_int_eq(wait_of(2, 0, BURST), 0);
}
END_TEST

START_TEST(who_is_many_users_gets_no_more_than_many)
{
	unsigned int at_once = 0;

	for (uid_t uid = 100000; uid < 101000; uid++)
		for (int i = 0; i < BURST; i++)
			at_once += wait_of(uid, 0, 1) == 0;
	ck_assert_uint_eq(at_once, 8 * BURST);
	/* When they are quiet again, their buckets are another's. */
	ck_assert_int_eq(wait_of(1, 100 * SECOND, BURST), 0);
}
END_TEST

SUITE("pace", NULL, NULL)
{
	tcase_add_test(tests, a_burst_at_once_and_then_sixteen_each_second);
	tcase_add_test(tests, who_waits_has_a_place_and_need_not_ask_again);
	tcase_add_test(tests, places_are_given_a_few_seconds_ahead_and_no_further);
	tcase_add_test(tests, root_and_other_users_do_not_wait);
	tcase_add_test(tests, who_is_many_users_gets_no_more_than_many);
}
