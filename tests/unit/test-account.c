/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each user may have of the daemon (daemon/account.h), and what is left for others. */
#include "daemon/account.h"

#include "common/frame.h"
#include "tests/unit/suite.h"

#define LIMIT 20000

static struct account *root, *one, *two, *three;

static void setup(void)
{
	account_limit_flight(LIMIT);
	root = account_get(0);
	one = account_get(1);
	two = account_get(2);
	three = account_get(3);
}

static void teardown(void)
{
	account_put(root);
	account_put(one);
	account_put(two);
	account_put(three);
}

/* Sends messages until no more may fly. Returns how many descriptors that were. */
static size_t fill(struct account *account, enum flight purpose)
{
	bool is_answer = purpose == FLIGHT_ANSWER || purpose == FLIGHT_CLAIM_ANSWER;
	size_t n = 0;

	for (; n <= LIMIT && account_may_fly(account, FRAME_MAX_FDS, purpose); n += FRAME_MAX_FDS)
		if (is_answer)
			account_count_unread(account, FRAME_MAX_FDS);
		else
			account_count_in_flight(account, FRAME_MAX_FDS);
	return n;
}

START_TEST(a_user_who_reads_no_answer_leaves_room_for_others)
{
	fill(one, FLIGHT_ANSWER);
	fill(one, FLIGHT_CLAIM_ANSWER);
	ck_assert(!account_may_fly(one, 1, FLIGHT_ANSWER));
	ck_assert(account_may_fly(two, FRAME_MAX_FDS, FLIGHT_CLAIM_ANSWER));
	ck_assert(account_may_fly(root, FRAME_MAX_FDS, FLIGHT_ANSWER));
}
END_TEST

START_TEST(all_users_who_claim_nothing_leave_room_for_a_claim_and_all_users_for_root)
{
	struct account *accounts[] = {one, two, three};

	for (size_t i = 0; i < 2; i++) {
		fill(accounts[i], FLIGHT_ANSWER);
		fill(accounts[i], FLIGHT_CLAIM_ANSWER);
	}
	ck_assert(!account_may_fly(three, FRAME_MAX_FDS, FLIGHT_ANSWER));
	ck_assert_uint_eq(fill(three, FLIGHT_CLAIM_ANSWER), FRAME_MAX_FDS);
	for (uid_t uid = 4; uid < 20; uid++)
		fill(account_get(uid), FLIGHT_CLAIM_ANSWER);
	ck_assert(account_may_fly(root, FRAME_MAX_FDS, FLIGHT_ANSWER));
}
END_TEST

START_TEST(journals_leave_room_for_the_records_of_claims_and_for_answers)
{
	fill(one, FLIGHT_RECORD);
	fill(two, FLIGHT_RECORD);
	ck_assert(!account_may_fly(three, FRAME_MAX_FDS, FLIGHT_RECORD));
	ck_assert(account_may_fly(three, 1, FLIGHT_CLAIM_RECORD));
	ck_assert(account_may_fly(three, FRAME_MAX_FDS, FLIGHT_ANSWER));
	ck_assert(account_may_fly(root, FRAME_MAX_FDS, FLIGHT_RECORD));
}
END_TEST

START_TEST(all_together_stay_below_what_the_kernel_allows)
{
	size_t n = fill(one, FLIGHT_ANSWER) + fill(two, FLIGHT_CLAIM_ANSWER) +
		   fill(root, FLIGHT_ANSWER) + fill(one, FLIGHT_RECORD) +
		   fill(two, FLIGHT_CLAIM_RECORD) + fill(root, FLIGHT_RECORD);

	ck_assert_uint_le(n, LIMIT);
	ck_assert_uint_gt(n, LIMIT * 9 / 10);
}
END_TEST

START_TEST(what_has_been_received_makes_room_again)
{
	size_t n = fill(one, FLIGHT_ANSWER);

	account_count_unread(one, -(ssize_t)n);
	ck_assert_uint_eq(fill(one, FLIGHT_ANSWER), n);
	n = fill(one, FLIGHT_RECORD);
	account_count_in_flight(one, -(ssize_t)n);
	ck_assert_uint_eq(fill(one, FLIGHT_RECORD), n);
}
END_TEST

START_TEST(one_message_may_fly_however_low_the_limit_is)
{
	account_limit_flight(1024);
	ck_assert(account_may_fly(one, FRAME_MAX_FDS, FLIGHT_ANSWER));
	account_count_unread(one, FRAME_MAX_FDS);
	ck_assert(account_may_fly(two, FRAME_MAX_FDS, FLIGHT_CLAIM_ANSWER));
}
END_TEST

SUITE("account", setup, teardown)
{
	tcase_add_test(tests, a_user_who_reads_no_answer_leaves_room_for_others);
	tcase_add_test(tests,
		       all_users_who_claim_nothing_leave_room_for_a_claim_and_all_users_for_root);
	tcase_add_test(tests, journals_leave_room_for_the_records_of_claims_and_for_answers);
	tcase_add_test(tests, all_together_stay_below_what_the_kernel_allows);
	tcase_add_test(tests, what_has_been_received_makes_room_again);
	tcase_add_test(tests, one_message_may_fly_however_low_the_limit_is);
}
