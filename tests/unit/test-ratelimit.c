/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many lines of the log a user may cause (daemon/ratelimit.h), on a clock of the test's own. */
#include "daemon/ratelimit.h"
#include "tests/unit/suite.h"

#define SECOND G_USEC_PER_SEC

/* How many of n are allowed at that time; *ret_lost: the sum of what they tell. */
static unsigned int allowed(uid_t uid, gint64 now, unsigned int n, unsigned int *ret_lost)
{
	unsigned int sum = 0, lost;

	*ret_lost = 0;
	for (unsigned int i = 0; i < n; i++)
		if (ratelimit_allows(uid, now, &lost)) {
			sum++;
			*ret_lost += lost;
		}
	return sum;
}

START_TEST(ten_at_once_and_then_one_each_second)
{
	unsigned int lost;

	ck_assert_uint_eq(allowed(1, 0, 100, &lost), 10);
	ck_assert_uint_eq(lost, 0);
	ck_assert_uint_eq(allowed(1, SECOND - 1, 100, &lost), 0);
	ck_assert_uint_eq(allowed(1, SECOND, 100, &lost), 1);
	ck_assert_uint_eq(allowed(1, 4 * SECOND, 100, &lost), 3);
}
END_TEST

START_TEST(what_was_not_logged_is_told_once)
{
	unsigned int lost;

	allowed(1, 0, 17, &lost);
	ck_assert_uint_eq(allowed(1, SECOND, 1, &lost), 1);
	ck_assert_uint_eq(lost, 7);
	ck_assert_uint_eq(allowed(1, 2 * SECOND, 1, &lost), 1);
	ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(who_was_quiet_has_all_of_its_burst_again_and_no_more)
{
	unsigned int lost;

	allowed(1, 0, 100, &lost);
	ck_assert_uint_eq(allowed(1, 10 * SECOND, 100, &lost), 10);
	ck_assert_uint_eq(allowed(1, 1000 * SECOND, 100, &lost), 10);
}
END_TEST

START_TEST(one_user_does_not_use_up_what_another_may)
{
	unsigned int lost;

	allowed(1, 0, 100, &lost);
	ck_assert_uint_eq(allowed(2, 0, 100, &lost), 10);
	ck_assert_uint_eq(allowed(RATELIMIT_NOBODY, 0, 100, &lost), 10);
}
END_TEST

START_TEST(who_is_many_users_gets_no_more_than_many_and_hides_nobody_for_ever)
{
	unsigned int sum = 0, lost;

	for (uid_t uid = 100000; uid < 101000; uid++)
		sum += allowed(uid, 0, 20, &lost);
	ck_assert_uint_le(sum, 257 * 10);
	/* They have lost lines, and are quiet: their buckets are another's, and the loss is told. */
	ck_assert_uint_eq(allowed(1, 1000 * SECOND, 1, &lost), 1);
	ck_assert_uint_eq(lost, 0);
	for (uid_t uid = 2; uid < 258; uid++)
		allowed(uid, 1000 * SECOND, 1, &lost);
	ck_assert_uint_gt(lost, 0);
}
END_TEST

SUITE("ratelimit", NULL, NULL)
{
	tcase_add_test(tests, ten_at_once_and_then_one_each_second);
	tcase_add_test(tests, what_was_not_logged_is_told_once);
	tcase_add_test(tests, who_was_quiet_has_all_of_its_burst_again_and_no_more);
	tcase_add_test(tests, one_user_does_not_use_up_what_another_may);
	tcase_add_test(tests, who_is_many_users_gets_no_more_than_many_and_hides_nobody_for_ever);
}
