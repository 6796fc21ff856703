/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who holds a device, as the daemon tells, and what check makes of it. As in the other tests of
 * check, the host is one of a few files.
 */
#include <string.h>
#include <unistd.h>

#include "cprctl/holder.h"
#include "cprctl/unitcheck.h"
#include "tests/unit/hostroot.h"
#include "tests/unit/suite.h"

/* One session, web1 of root's, orphaned, last of vm@web1.service; it holds device. */
static json_t *orphan(const char *device)
{
	return json_pack("[{s:s, s:i, s:s, s:n, s:s, s:i, s:[s]}]", "name", "web1", "uid", 0,
			 "state", "orphaned", "holder", "unit", "vm@web1.service", "ageUsec",
			 6000000, "devices", device);
}

static json_t *active(const char *device)
{
	return json_pack("[{s:s, s:i, s:s, s:{s:i, s:s}, s:i, s:[s]}]", "name", "web1", "uid", 0,
			 "state", "active", "holder", "pid", 77, "unit", "vm@web1.service",
			 "ageUsec", 6000000, "devices", device);
}

/* With what the daemon told; consumes it. */
static void look_at(const char *name, json_t *sessions, const struct unit_facts *unit,
		    bool are_given)
{
	json_auto_t *told = sessions;
	struct check_scope scope = {
		.root = root, .unit = unit, .sessions = told, .are_given = are_given};

	check_device(findings, &scope, name);
}

static void says(const char *check, const char *in_detail, const char *in_remedy)
{
	const struct finding *finding = find(check);

	ck_assert_msg(strstr(finding->detail, in_detail) != NULL, "%s", finding->detail);
	ck_assert_msg(!in_remedy || strstr(finding->remedy, in_remedy), "%s", finding->remedy);
}

START_TEST(an_orphans_device_is_a_blocker_for_others)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF, orphan(BDF), NULL, true);
	expect("device-holder", CHECK_BLOCKER, BACKEND_ALL);
	says("device-holder", "session web1 of uid 0 (orphaned for 6s, vm@web1.service)",
	     "vfio-cprctl release");
	says("device-holder", "another VM cannot use it now", "systemctl start vm@web1.service");
}
END_TEST

START_TEST(it_is_not_for_the_unit_whose_it_is)
{
	auto_unit_facts *own = unit_parse("Id=vm@web1.service\n");
	auto_unit_facts *other = unit_parse("Id=vm@web2.service\n");

	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF, orphan(BDF), own, true);
	expect("device-holder", CHECK_OK, 0);
	g_ptr_array_set_size(findings, 0);
	look_at(BDF, orphan(BDF), other, true);
	expect("device-holder", CHECK_BLOCKER, BACKEND_ALL);
}
END_TEST

START_TEST(a_running_vms_device_is_a_blocker_for_who_asks_for_it)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF, active(BDF), NULL, true);
	expect("device-holder", CHECK_BLOCKER, BACKEND_ALL);
	says("device-holder", "active for 6s", "systemctl stop vm@web1.service && vfio-cprctl");
}
END_TEST

START_TEST(a_running_vms_device_is_fine_where_all_are_looked_at)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF, active(BDF), NULL, false);
	expect("device-holder", CHECK_OK, 0);
	g_ptr_array_set_size(findings, 0);
	look_at(BDF, orphan(BDF), NULL, false);
	expect("device-holder", CHECK_BLOCKER, BACKEND_ALL);
}
END_TEST

START_TEST(a_group_is_held_as_a_whole)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	make_device(OTHER, "vfio-pci", "12", "vfio1", true);
	look_at(BDF, orphan(OTHER), NULL, true);
	expect("device-holder", CHECK_BLOCKER, BACKEND_ALL);
	says("device-holder", OTHER, NULL);
}
END_TEST

START_TEST(an_unbind_that_waits_is_told_from_a_device_without_driver)
{
	make_device(BDF, NULL, "12", NULL, false);
	look_at(BDF, orphan(BDF), NULL, true);
	expect("device-driver", CHECK_BLOCKER, BACKEND_ALL);
	says("device-driver", "being unbound", "vfio-cprctl release");
	ck_assert_ptr_null(strstr(find("device-driver")->remedy, "drivers_probe"));

	g_ptr_array_set_size(findings, 0);
	look_at(BDF, orphan(OTHER), NULL, true);
	says("device-driver", "no driver", "drivers_probe");
}
END_TEST

START_TEST(what_the_caller_may_not_see_is_not_known_to_be_free)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF, json_array(), NULL, true);
	expect("device-holder", geteuid() ? CHECK_UNKNOWN : CHECK_OK, 0);
	g_ptr_array_set_size(findings, 0);
	if (!geteuid())
		ck_assert_int_eq(seteuid(65534), 0);
	look_at(BDF, json_array(), NULL, true);
	leave_nobody();
	expect("device-holder", CHECK_UNKNOWN, 0);
}
END_TEST

START_TEST(a_session_that_cannot_be_read_may_hold_it)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF,
		json_pack("[{s:s, s:s, s:n}]", "name", "old", "state", "unreadable", "devices"),
		NULL, true);
	expect("device-holder", CHECK_UNKNOWN, 0);
	says("device-holder", "session old", "systemctl restart vfio-cprd");
}
END_TEST

START_TEST(without_a_daemon_nothing_is_said_of_holders)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF, NULL, NULL, true);
	ck_assert(!has("device-holder"));
}
END_TEST

/* Of a session of that name and unit, root may paste the remedy. */
static void expect_remedy(const char *name, const char *unit, const char *remedy)
{
	json_auto_t *session = json_pack("{s:s, s:i, s:s, s:s}", "name", name, "uid",
					 (int)geteuid(), "state", "orphaned", "unit", unit);
	g_autofree char *told = holder_remedy(session);

	ck_assert_msg(strstr(told, remedy) != NULL, "%s", told);
}

START_TEST(names_are_no_commands)
{
	expect_remedy("a;reboot", "", "vfio-cprctl release 'a;reboot'");
	expect_remedy("$(id)", "", "vfio-cprctl release '$(id)'");
	expect_remedy("-y", "", "vfio-cprctl release -- -y");
	expect_remedy("0000:3b:00.0", "", "vfio-cprctl release 0000:3b:00.0");
	expect_remedy("vm", "x;reboot.service", "start its VMM again");
	expect_remedy("vm", "a\\x2db.service", "systemctl start 'a\\x2db.service'");
}
END_TEST

START_TEST(a_vf_of_a_pf_of_vfio_needs_a_token)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	make_device(OTHER, "vfio-pci", "13", "vfio1", true);
	make_link("sys/bus/pci/devices/" OTHER "/physfn", "../" BDF);
	look_at(OTHER, NULL, NULL, true);
	expect("device-vf", CHECK_BLOCKER, BACKEND_ALL);
	says("device-vf", "VF token", BDF);
}
END_TEST

START_TEST(a_vf_of_a_pf_of_the_host_needs_none)
{
	make_device(BDF, "mlx5_core", "12", NULL, false);
	make_device(OTHER, "vfio-pci", "13", "vfio1", true);
	make_link("sys/bus/pci/devices/" OTHER "/physfn", "../" BDF);
	look_at(OTHER, NULL, NULL, true);
	ck_assert(!has("device-vf"));
}
END_TEST

SUITE("holder", host_make, host_remove)
{
	tcase_add_test(tests, an_orphans_device_is_a_blocker_for_others);
	tcase_add_test(tests, it_is_not_for_the_unit_whose_it_is);
	tcase_add_test(tests, a_running_vms_device_is_a_blocker_for_who_asks_for_it);
	tcase_add_test(tests, a_running_vms_device_is_fine_where_all_are_looked_at);
	tcase_add_test(tests, a_group_is_held_as_a_whole);
	tcase_add_test(tests, an_unbind_that_waits_is_told_from_a_device_without_driver);
	tcase_add_test(tests, what_the_caller_may_not_see_is_not_known_to_be_free);
	tcase_add_test(tests, a_session_that_cannot_be_read_may_hold_it);
	tcase_add_test(tests, without_a_daemon_nothing_is_said_of_holders);
	tcase_add_test(tests, names_are_no_commands);
	tcase_add_test(tests, a_vf_of_a_pf_of_vfio_needs_a_token);
	tcase_add_test(tests, a_vf_of_a_pf_of_the_host_needs_none);
}
