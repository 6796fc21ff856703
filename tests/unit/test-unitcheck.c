/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is made of a unit's settings, as "systemctl show" prints them.
 */
#include <string.h>

#include "cprctl/unitcheck.h"
#include "tests/unit/hostroot.h"
#include "tests/unit/suite.h"

static const char as_in_the_example[] = "Id=vm@web1.service\n"
					"LoadState=loaded\n"
					"User=alice\n"
					"Group=\n"
					"SupplementaryGroups=kvm vfio\n"
					"MainPID=0\n"
					"LimitMEMLOCKSoft=infinity\n"
					"LimitNOFILE=524288\n"
					"DevicePolicy=closed\n"
					"DeviceAllow=char-vfio* rw\n"
					"DeviceAllow=/dev/vfio/vfio rw\n"
					"DeviceAllow=/dev/iommu rw\n"
					"PrivateDevices=no\n";

static void expect_refusal(const struct unit_facts *facts, const char *node, const char *devices,
			   bool refused)
{
	g_autofree char *why = unit_refuses(facts, root, node, devices);

	ck_assert_msg(!!why == refused, "%s: %s", node, why ? why : "is not refused");
}

START_TEST(the_example_of_a_unit_is_fine)
{
	auto_unit_facts *facts = unit_parse(as_in_the_example);

	check_unit(findings, root, facts);
	expect("unit", CHECK_OK, 0);
	expect("memlock", CHECK_OK, 0);
	expect("nofile", CHECK_OK, 0);
	expect_refusal(facts, "/dev/vfio/vfio", "misc", false);
	expect_refusal(facts, "/dev/iommu", "misc", false);
	expect_refusal(facts, "/dev/vfio/12", "vfio", false);
	expect_refusal(facts, "/dev/vfio/devices/vfio0", "vfio-dev", false);
	ck_assert_str_eq(facts->user, "alice");
	ck_assert_str_eq(facts->groups[1], "vfio");
}
END_TEST

START_TEST(a_units_low_limits_are_warnings_that_name_it)
{
	auto_unit_facts *facts =
		unit_parse("Id=vm.service\nLoadState=loaded\nLimitMEMLOCKSoft=8388608\n"
			   "LimitNOFILE=65536\n");

	check_unit(findings, root, facts);
	expect("memlock", CHECK_WARNING, 0);
	expect("nofile", CHECK_WARNING, 0);
	ck_assert_ptr_nonnull(strstr(find("memlock")->detail, "vm.service"));
	ck_assert_ptr_nonnull(strstr(find("nofile")->remedy, "524288"));
}
END_TEST

START_TEST(the_limits_of_the_running_process_come_first)
{
	auto_unit_facts *facts = unit_parse("Id=vm.service\nLoadState=loaded\nMainPID=77\n"
					    "LimitMEMLOCKSoft=infinity\nLimitNOFILE=524288\n");

	make_file(
		"proc/77/limits",
		"Limit                     Soft Limit           Hard Limit           Units     \n"
		"Max open files            1024                 4096                 files     \n"
		"Max locked memory         65536                unlimited            bytes     \n");
	check_unit(findings, root, facts);
	expect("memlock", CHECK_WARNING, 0);
	expect("nofile", CHECK_WARNING, 0);
	ck_assert_ptr_nonnull(strstr(find("memlock")->detail, "64 KiB for process 77"));
	ck_assert_ptr_nonnull(strstr(find("nofile")->detail, "4096"));
}
END_TEST

START_TEST(a_unit_that_is_not_there_is_a_blocker)
{
	auto_unit_facts *facts = unit_parse("Id=wm.service\nLoadState=not-found\n");

	check_unit(findings, root, facts);
	expect("unit", CHECK_BLOCKER, BACKEND_ALL);
	ck_assert_uint_eq(findings->len, 1);
}
END_TEST

START_TEST(a_unit_that_starts_no_process_has_no_limits)
{
	auto_unit_facts *facts = unit_parse("Id=vms.slice\nLoadState=loaded\n");

	check_unit(findings, root, facts);
	expect("memlock", CHECK_UNKNOWN, 0);
}
END_TEST

START_TEST(without_a_policy_all_devices_are_allowed)
{
	auto_unit_facts *facts = unit_parse("DevicePolicy=auto\n");
	auto_unit_facts *listed = unit_parse("DevicePolicy=auto\nDeviceAllow=/dev/kvm rw\n");

	expect_refusal(facts, "/dev/vfio/12", "vfio", false);
	expect_refusal(listed, "/dev/vfio/12", "vfio", true);
}
END_TEST

START_TEST(a_policy_is_read_as_systemd_does)
{
	static const struct {
		const char *allow;
		bool group, cdev, container;
	} cases[] = {
		{"char-vfio rw", true, false, false},	   {"char-vfio* rw", true, true, false},
		{"char-vfio-dev rwm", false, true, false}, {"char-* rw", true, true, true},
		{"char-misc rw", false, false, true},	   {"char-vfio* r", false, false, false},
		{"/dev/vfio/12 rw", true, false, false},   {"/dev/vfio rw", false, false, false},
		{"block-* rw", false, false, false},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *text =
			g_strdup_printf("DevicePolicy=strict\nDeviceAllow=%s\n", cases[i].allow);
		auto_unit_facts *facts = unit_parse(text);

		expect_refusal(facts, "/dev/vfio/12", "vfio", !cases[i].group);
		expect_refusal(facts, "/dev/vfio/devices/vfio0", "vfio-dev", !cases[i].cdev);
		expect_refusal(facts, "/dev/vfio/vfio", "misc", !cases[i].container);
	}
}
END_TEST

START_TEST(private_devices_has_no_vfio)
{
	auto_unit_facts *facts = unit_parse("PrivateDevices=yes\nDeviceAllow=char-vfio* rw\n");

	expect_refusal(facts, "/dev/vfio/12", "vfio", true);
}
END_TEST

START_TEST(names_of_units_are_told_from_patterns_and_options)
{
	static const char *const good[] = {"vm@web1", "vm@web1.service", "a\\x2db.service", "_:x"};
	static const char *const bad[] = {"", "--all", "vm*", "vm?", "vm[1]", "a b", "a/b", "a\n"};

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
		ck_assert_msg(unit_name_is_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		ck_assert_msg(!unit_name_is_valid(bad[i]), "%s", bad[i]);
}
END_TEST

SUITE("unitcheck", host_make, host_remove)
{
	tcase_add_test(tests, the_example_of_a_unit_is_fine);
	tcase_add_test(tests, a_units_low_limits_are_warnings_that_name_it);
	tcase_add_test(tests, the_limits_of_the_running_process_come_first);
	tcase_add_test(tests, a_unit_that_is_not_there_is_a_blocker);
	tcase_add_test(tests, a_unit_that_starts_no_process_has_no_limits);
	tcase_add_test(tests, without_a_policy_all_devices_are_allowed);
	tcase_add_test(tests, a_policy_is_read_as_systemd_does);
	tcase_add_test(tests, private_devices_has_no_vfio);
	tcase_add_test(tests, names_of_units_are_told_from_patterns_and_options);
}
