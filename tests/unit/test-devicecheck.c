/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprctl check DEVICE, with devices that this machine does not have.
 */
#include <errno.h>
#include <string.h>

#include "cprctl/access.h"
#include "tests/unit/hostroot.h"
#include "tests/unit/suite.h"

static void look_at(const char *name)
{
	check_device(findings, &(struct check_scope){.root = root}, name);
}

/* The backends of available that the device is known to work with. */
static unsigned int good(unsigned int available)
{
	return findings_settle(findings, 0, (struct verdict){.good = available}).good;
}

START_TEST(a_device_of_vfio_pci_in_its_own_group_is_fine)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at(BDF);
	expect("device-driver", CHECK_OK, 0);
	expect("device-group", CHECK_OK, 0);
	expect("device-cdev", CHECK_OK, 0);
	ck_assert_uint_eq(findings->len, 3);
}
END_TEST

START_TEST(a_device_may_be_named_without_its_domain)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	look_at("3B:00.0");
	expect("device-driver", CHECK_OK, 0);
}
END_TEST

START_TEST(addresses_are_taken_in_upper_case_and_with_long_domains)
{
	make_device("10000:3b:00.0", "vfio-pci", "12", "vfio0", true);
	make_device("abcdef:3b:00.1", "vfio-pci", "13", "vfio1", true);
	look_at("10000:3B:00.0");
	expect("device-driver", CHECK_OK, 0);
	g_ptr_array_set_size(findings, 0);
	look_at("ABCDEF:3b:00.1");
	expect("device-driver", CHECK_OK, 0);
}
END_TEST

START_TEST(a_variant_driver_is_as_good)
{
	make_device(BDF, "mlx5_vfio_pci", "12", "vfio0", true);
	make_device(OTHER, "some-variant", "12", "vfio1", true);
	look_at(BDF);
	look_at(OTHER);
	ck_assert_uint_eq(good(BACKEND_ALL), BACKEND_ALL);
}
END_TEST

START_TEST(a_device_of_a_host_driver_is_ruled_out_with_the_commands)
{
	make_device(BDF, "nvme", "12", NULL, false);
	look_at(BDF);
	expect("device-driver", CHECK_BLOCKER, BACKEND_ALL);
	ck_assert_ptr_nonnull(strstr(find("device-driver")->remedy,
				     "echo vfio-pci > /sys/bus/pci/devices/" BDF
				     "/driver_override && echo " BDF " > /sys/bus/pci/devices/" BDF
				     "/driver/unbind && echo " BDF
				     " > /sys/bus/pci/drivers_probe"));
}
END_TEST

START_TEST(a_device_without_driver_needs_no_unbind)
{
	make_device(BDF, NULL, "12", NULL, false);
	look_at(BDF);
	expect("device-driver", CHECK_BLOCKER, BACKEND_ALL);
	ck_assert_ptr_null(strstr(find("device-driver")->remedy, "unbind"));
}
END_TEST

START_TEST(a_group_shared_with_a_host_driver_is_not_viable)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	make_device(OTHER, "xhci_hcd", "12", NULL, false);
	look_at(BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_ALL);
	ck_assert_ptr_nonnull(strstr(find("device-group")->detail, OTHER " (xhci_hcd)"));
}
END_TEST

START_TEST(a_group_shared_with_bridges_and_unbound_devices_is_viable)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	make_device(OTHER, NULL, "12", NULL, false);
	make_device("0000:3a:00.0", "pcieport", "12", NULL, false);
	look_at(BDF);
	expect("device-group", CHECK_OK, 0);
}
END_TEST

START_TEST(a_device_without_group_is_ruled_out)
{
	make_device(BDF, "vfio-pci", NULL, "vfio0", true);
	look_at(BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_ALL);
}
END_TEST

START_TEST(a_missing_cdev_rules_iommufd_out_only)
{
	/* vfio-dev/ is there without cdevs too; its file dev is not. */
	make_device(BDF, "vfio-pci", "12", "vfio0", false);
	look_at(BDF);
	expect("device-cdev", CHECK_BLOCKER, BACKEND_IOMMUFD);
	ck_assert_uint_eq(good(BACKEND_ALL), BACKEND_TYPE1);
}
END_TEST

START_TEST(a_missing_cdev_matters_where_only_iommufd_works)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", false);
	look_at(BDF);
	ck_assert_uint_eq(good(BACKEND_IOMMUFD), 0);
	ck_assert_int_eq(find("device-cdev")->status, CHECK_BLOCKER);
}
END_TEST

START_TEST(a_missing_group_node_rules_type1_out)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	remove_node("dev/vfio/12");
	look_at(BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(noiommu_rules_type1_out)
{
	make_device(BDF, "vfio-pci", "0", "noiommu-vfio0", true);
	make_file("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
	look_at(BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_TYPE1);
	expect("device-cdev", CHECK_OK, 0);
}
END_TEST

START_TEST(an_mdev_rules_type1_out)
{
	make_link("sys/bus/mdev/devices/" UUID "/driver", "../../../bus/mdev/drivers/vfio_mtty");
	make_file("sys/bus/mdev/devices/" UUID "/vfio-dev/vfio3/dev", "511:3\n");
	make_file("dev/vfio/devices/vfio3", "");
	look_at(UUID);
	expect("device-mdev", CHECK_BLOCKER, BACKEND_TYPE1);
	expect("device-cdev", CHECK_OK, 0);
}
END_TEST

START_TEST(a_device_that_is_not_there_is_a_blocker)
{
	static const char *const names[] = {BDF, "3b:00.0", ".", "..", "../devices", "\x1b[0m"};

	make_dir("sys/bus/pci/devices");
	make_dir("sys/bus/mdev/devices");
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_ptr_array_set_size(findings, 0);
		look_at(names[i]);
		expect("device", CHECK_BLOCKER, BACKEND_ALL);
	}
}
END_TEST

START_TEST(devices_that_may_not_be_listed_are_not_none)
{
	int error = 0;

	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	hide("sys/bus/pci/devices");
	g_ptr_array_unref(devices_of_vfio(root, &error));
	leave_nobody();
	ck_assert_int_eq(error, -EACCES);
}
END_TEST

START_TEST(devices_of_vfio_drivers_are_found)
{
	make_device("0000:00:02.0", "i915", "1", NULL, false);
	make_device(OTHER, "vfio-pci", "13", "vfio1", true);
	make_device(BDF, "vfio-pci", "12", NULL, false);
	make_device("0000:3c:00.0", NULL, "14", NULL, false);

	int error = 0;
	g_autoptr(GPtrArray) names = devices_of_vfio(root, &error);

	ck_assert_int_eq(error, 0);
	ck_assert_uint_eq(names->len, 2);
	ck_assert_str_eq(names->pdata[0], BDF);
	ck_assert_str_eq(names->pdata[1], OTHER);
}
END_TEST

START_TEST(nodes_that_this_user_may_not_open_leave_a_device_unknown)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	hide("dev/vfio/12");
	look_at(BDF);
	leave_nobody();
	expect("device-group", CHECK_OK, 0);
	expect("device-access", CHECK_UNKNOWN, BACKEND_TYPE1);
	ck_assert_uint_eq(good(BACKEND_TYPE1), 0);
}
END_TEST

START_TEST(a_device_that_may_not_be_looked_at_is_not_missing)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	hide("sys/bus/pci/devices");
	look_at(BDF);
	leave_nobody();
	expect("device", CHECK_UNKNOWN, BACKEND_ALL);
	ck_assert_uint_eq(findings->len, 1);
}
END_TEST

START_TEST(a_device_whose_links_may_not_be_read_is_not_bound_to_nothing)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	hide("sys/bus/pci/devices/" BDF);
	look_at(BDF);
	leave_nobody();
	expect("device", CHECK_UNKNOWN, BACKEND_ALL);
}
END_TEST

START_TEST(a_group_that_may_not_be_listed_is_not_viable_for_that)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	hide("sys/kernel/iommu_groups/12/devices");
	look_at(BDF);
	leave_nobody();
	expect("device-group", CHECK_UNKNOWN, BACKEND_ALL);
}
END_TEST

START_TEST(a_node_in_a_closed_directory_is_not_missing)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	hide("dev/vfio");
	look_at(BDF);
	leave_nobody();
	expect("device-group", CHECK_UNKNOWN, BACKEND_TYPE1);
	expect("device-cdev", CHECK_UNKNOWN, BACKEND_IOMMUFD);
	ck_assert_uint_eq(good(BACKEND_ALL), 0);
}
END_TEST

SUITE("devicecheck", host_make, host_remove)
{
	tcase_add_test(tests, a_device_of_vfio_pci_in_its_own_group_is_fine);
	tcase_add_test(tests, a_device_may_be_named_without_its_domain);
	tcase_add_test(tests, addresses_are_taken_in_upper_case_and_with_long_domains);
	tcase_add_test(tests, a_variant_driver_is_as_good);
	tcase_add_test(tests, a_device_of_a_host_driver_is_ruled_out_with_the_commands);
	tcase_add_test(tests, a_device_without_driver_needs_no_unbind);
	tcase_add_test(tests, a_group_shared_with_a_host_driver_is_not_viable);
	tcase_add_test(tests, a_group_shared_with_bridges_and_unbound_devices_is_viable);
	tcase_add_test(tests, a_device_without_group_is_ruled_out);
	tcase_add_test(tests, a_missing_cdev_rules_iommufd_out_only);
	tcase_add_test(tests, a_missing_cdev_matters_where_only_iommufd_works);
	tcase_add_test(tests, a_missing_group_node_rules_type1_out);
	tcase_add_test(tests, noiommu_rules_type1_out);
	tcase_add_test(tests, an_mdev_rules_type1_out);
	tcase_add_test(tests, a_device_that_is_not_there_is_a_blocker);
	tcase_add_test(tests, devices_that_may_not_be_listed_are_not_none);
	tcase_add_test(tests, devices_of_vfio_drivers_are_found);
	tcase_add_test(tests, nodes_that_this_user_may_not_open_leave_a_device_unknown);
	tcase_add_test(tests, a_device_that_may_not_be_looked_at_is_not_missing);
	tcase_add_test(tests, a_device_whose_links_may_not_be_read_is_not_bound_to_nothing);
	tcase_add_test(tests, a_group_that_may_not_be_listed_is_not_viable_for_that);
	tcase_add_test(tests, a_node_in_a_closed_directory_is_not_missing);
}
