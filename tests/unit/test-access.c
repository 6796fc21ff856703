/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a user may open what a VMM has to open. Run as root, each test asks as somebody else; run
 * by another user, it holds that what only root can ask is not known.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cprctl/access.h"
#include "cprctl/unitcheck.h"
#include "tests/unit/hostroot.h"
#include "tests/unit/suite.h"

#define SOMEBODY "65533" /* no user of this machine */
#define NODE	 "dev/vfio/12"

static const struct node group_node = {"device-access", BDF, "/" NODE, "vfio", BACKEND_TYPE1};

static struct credentials *somebody(char *const *groups)
{
	const char *missing;
	struct credentials *found;

	ck_assert_int_eq(credentials_find(SOMEBODY, NULL, groups, &found, &missing), 0);
	return found;
}

static void make_node(mode_t mode, gid_t gid)
{
	g_autofree char *full = g_build_filename(root, NODE, NULL);

	make_file(NODE, "");
	if (!geteuid())
		ck_assert_int_eq(chown(full, 0, gid), 0);
	ck_assert_int_eq(chmod(full, mode), 0);
}

/* The finding for a user, which only root can get. */
static void expect_for(const struct credentials *user, enum check_status as_root,
		       unsigned int blocks)
{
	struct check_scope scope = {.root = root, .user = user};

	check_node(findings, &scope, &group_node);
	if (geteuid())
		expect("device-access", CHECK_UNKNOWN, BACKEND_TYPE1);
	else
		expect("device-access", as_root, blocks);
}

START_TEST(a_user_without_access_is_a_blocker)
{
	auto_credentials *user = somebody(NULL);

	make_node(0600, 0);
	expect_for(user, CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(a_user_with_access_is_fine)
{
	auto_credentials *user = somebody(NULL);

	make_node(0666, 0);
	expect_for(user, CHECK_OK, 0);
}
END_TEST

START_TEST(to_read_alone_is_not_enough)
{
	auto_credentials *user = somebody(NULL);

	make_node(0644, 0);
	expect_for(user, CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(groups_that_a_unit_adds_count)
{
	char *const groups[] = {"64000", NULL};
	auto_credentials *user = somebody(groups);

	make_node(0660, 64000);
	expect_for(user, CHECK_OK, 0);
}
END_TEST

START_TEST(the_askers_own_groups_do_not_count)
{
	auto_credentials *user = somebody(NULL);

	make_node(0660, getegid());
	expect_for(user, CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(a_directory_on_the_way_counts)
{
	auto_credentials *user = somebody(NULL);
	g_autofree char *dir = g_build_filename(root, "dev/vfio", NULL);

	make_node(0666, 0);
	ck_assert_int_eq(chmod(dir, 0700), 0);
	expect_for(user, CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(a_node_that_the_caller_may_not_open_is_not_looked_into)
{
	struct check_scope scope = {.root = root};

	make_node(0600, 0);
	hide(NODE);
	check_node(findings, &scope, &group_node);
	leave_nobody();
	expect("device-access", CHECK_UNKNOWN, BACKEND_TYPE1);
}
END_TEST

START_TEST(a_node_that_the_caller_may_open_is_not_worth_a_word)
{
	struct check_scope scope = {.root = root};

	make_node(0600, 0);
	check_node(findings, &scope, &group_node);
	ck_assert_uint_eq(findings->len, 0);
}
END_TEST

START_TEST(who_is_not_root_cannot_ask_for_others)
{
	auto_credentials *user = somebody(NULL);
	struct check_scope scope = {.root = root, .user = user};

	make_node(0666, 0);
	if (!geteuid())
		ck_assert_int_eq(seteuid(65534), 0);
	check_node(findings, &scope, &group_node);
	leave_nobody();
	expect("device-access", CHECK_UNKNOWN, BACKEND_TYPE1);
}
END_TEST

START_TEST(a_node_that_is_not_there_is_not_told_again)
{
	auto_credentials *user = geteuid() ? NULL : somebody(NULL);
	struct check_scope scope = {.root = root, .user = user};

	check_node(findings, &scope, &group_node);
	ck_assert_uint_eq(findings->len, 0);
}
END_TEST

START_TEST(a_user_who_may_not_connect_is_a_blocker_for_all)
{
	auto_credentials *user = somebody(NULL);
	g_autofree char *socket = g_build_filename(root, "socket", NULL);
	const struct node node = {"access", socket, socket, NULL, BACKEND_ALL};
	struct check_scope scope = {.root = "", .user = user};

	make_file("socket", "");
	ck_assert_int_eq(chmod(socket, 0600), 0);
	check_node(findings, &scope, &node);
	expect("access", geteuid() ? CHECK_UNKNOWN : CHECK_BLOCKER, BACKEND_ALL);
}
END_TEST

START_TEST(a_units_sandbox_is_a_blocker_for_whoever_it_is)
{
	auto_unit_facts *unit = unit_parse("Id=vm.service\nDevicePolicy=closed\n");
	struct check_scope scope = {.root = root, .unit = unit};

	make_node(0666, 0);
	check_node(findings, &scope, &group_node);
	expect("device-access", CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(who_does_not_exist_is_named)
{
	char *const groups[] = {"0", "no-such-group", NULL};
	struct credentials *found;
	const char *missing;

	ck_assert_int_eq(credentials_find("no-such-user", NULL, NULL, &found, &missing), -ENOENT);
	ck_assert_str_eq(missing, "no-such-user");
	ck_assert_int_eq(credentials_find("0", "no-group", NULL, &found, &missing), -ENOENT);
	ck_assert_str_eq(missing, "no-group");
	ck_assert_int_eq(credentials_find("0", "", groups, &found, &missing), -ENOENT);
	ck_assert_str_eq(missing, "no-such-group");
	ck_assert_int_eq(credentials_find("4294967295", NULL, NULL, &found, &missing), -ENOENT);
}
END_TEST

SUITE("access", host_make, host_remove)
{
	tcase_add_test(tests, a_user_without_access_is_a_blocker);
	tcase_add_test(tests, a_user_with_access_is_fine);
	tcase_add_test(tests, to_read_alone_is_not_enough);
	tcase_add_test(tests, groups_that_a_unit_adds_count);
	tcase_add_test(tests, the_askers_own_groups_do_not_count);
	tcase_add_test(tests, a_directory_on_the_way_counts);
	tcase_add_test(tests, a_node_that_the_caller_may_not_open_is_not_looked_into);
	tcase_add_test(tests, a_node_that_the_caller_may_open_is_not_worth_a_word);
	tcase_add_test(tests, who_is_not_root_cannot_ask_for_others);
	tcase_add_test(tests, a_node_that_is_not_there_is_not_told_again);
	tcase_add_test(tests, a_user_who_may_not_connect_is_a_blocker_for_all);
	tcase_add_test(tests, a_units_sandbox_is_a_blocker_for_whoever_it_is);
	tcase_add_test(tests, who_does_not_exist_is_named);
}
