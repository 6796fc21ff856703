/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprctl check, on hosts that this machine is not: what is asked, and what is made of it.
 */
#include <errno.h>
#include <glib.h>

#include "tests/unit/hostroot.h"
#include "tests/unit/suite.h"

#define ALL ((struct verdict){.good = BACKEND_ALL})

START_TEST(a_kernel_before_6_0_rules_type1_out)
{
	check_kernel(findings, "5.15.85-generic", "x86_64");
	expect("kernel", CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(a_kernel_without_owner_change_is_a_warning)
{
	check_kernel(findings, "6.2.16-3-pve", "x86_64");
	expect("kernel", CHECK_WARNING, 0);
}
END_TEST

START_TEST(kernels_from_6_1_stable_on_are_fine)
{
	static const char *const releases[] = {"6.1.187", "6.3.0", "6.13.9", "6.14.0", "7.3.4-rc1"};

	for (size_t i = 0; i < G_N_ELEMENTS(releases); i++)
		check_kernel(findings, releases[i], "aarch64");
	ck_assert_uint_eq(findings->len, G_N_ELEMENTS(releases));
	for (guint i = 0; i < findings->len; i++)
		ck_assert_int_eq(((struct finding *)findings->pdata[i])->status, CHECK_OK);
}
END_TEST

START_TEST(s390_is_ruled_out)
{
	check_kernel(findings, "7.0.0", "s390x");
	expect("architecture", CHECK_BLOCKER, BACKEND_ALL);
}
END_TEST

START_TEST(a_host_without_iommu_is_ruled_out)
{
	make_dir("sys/class/iommu");
	make_dir("sys/kernel/iommu_groups");
	check_iommu(findings, root);
	expect("iommu", CHECK_BLOCKER, BACKEND_ALL);
}
END_TEST

START_TEST(noiommu_mode_leaves_iommufd)
{
	make_file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
	check_iommu(findings, root);
	expect("iommu", CHECK_BLOCKER, BACKEND_TYPE1);
	expect("noiommu", CHECK_WARNING, 0);
}
END_TEST

START_TEST(a_host_with_iommu_groups_is_fine)
{
	make_dir("sys/class/iommu/dmar0");
	make_dir("sys/kernel/iommu_groups/12");
	make_file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
	check_iommu(findings, root);
	expect("iommu", CHECK_OK, 0);
	ck_assert_uint_eq(findings->len, 1);
}
END_TEST

START_TEST(the_vfio_pci_driver_is_wanted_not_needed)
{
	check_driver(findings, root);
	expect("driver", CHECK_WARNING, 0);
	g_ptr_array_set_size(findings, 0);
	make_dir("sys/bus/pci/drivers/vfio-pci");
	check_driver(findings, root);
	expect("driver", CHECK_OK, 0);
}
END_TEST

START_TEST(probing_a_root_without_nodes_tells_enoent)
{
	struct type1_facts type1;
	struct iommufd_facts iommufd;

	probe_type1(root, &type1);
	ck_assert_int_eq(type1.error, ENOENT);
	probe_iommufd(root, &iommufd);
	ck_assert_int_eq(iommufd.error, ENOENT);
}
END_TEST

START_TEST(what_is_no_container_is_told_from_one)
{
	struct type1_facts type1;
	struct iommufd_facts iommufd;

	make_file("dev/vfio/vfio", "");
	make_file("dev/iommu", "");
	probe_type1(root, &type1);
	ck_assert_int_eq(type1.error, 0);
	ck_assert(!type1.is_vfio);
	check_type1(findings, &type1);
	expect("type1", CHECK_BLOCKER, BACKEND_TYPE1);
	probe_iommufd(root, &iommufd);
	ck_assert_int_eq(iommufd.error, 0);
	ck_assert_int_eq(iommufd.change_process, ENOTTY);
}
END_TEST

START_TEST(type1_facts_are_judged)
{
	static const struct {
		struct type1_facts facts;
		enum check_status status;
	} cases[] = {
		{{.is_vfio = true, .type1v2 = true, .unmap_all = true}, CHECK_OK},
		{{.is_vfio = true, .type1v2 = true}, CHECK_BLOCKER},
		{{.is_vfio = true, .unmap_all = true}, CHECK_BLOCKER},
		{{.is_vfio = true, .is_iommufd = true, .type1v2 = true, .unmap_all = true},
		 CHECK_BLOCKER},
		{{.error = ENOENT}, CHECK_BLOCKER},
		{{.error = EACCES}, CHECK_UNKNOWN},
		{{.error = EMFILE}, CHECK_UNKNOWN},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_ptr_array_set_size(findings, 0);
		check_type1(findings, &cases[i].facts);
		expect("type1", cases[i].status, cases[i].status == CHECK_OK ? 0 : BACKEND_TYPE1);
	}
}
END_TEST

START_TEST(iommufd_without_change_process_is_ruled_out)
{
	check_iommufd(findings, root, &(struct iommufd_facts){.change_process = ENOTTY});
	expect("iommufd", CHECK_BLOCKER, BACKEND_IOMMUFD);
}
END_TEST

START_TEST(iommufd_needs_device_cdevs)
{
	make_dir("sys/class/vfio-dev");
	make_file("proc/devices", "Character devices:\n 10 misc\n511 vfio\n");
	check_iommufd(findings, root, &(struct iommufd_facts){0});
	expect("iommufd", CHECK_BLOCKER, BACKEND_IOMMUFD);

	g_ptr_array_set_size(findings, 0);
	make_file("proc/devices", "Character devices:\n 10 misc\n510 vfio-dev\n511 vfio\n");
	check_iommufd(findings, root, &(struct iommufd_facts){0});
	expect("iommufd", CHECK_OK, 0);
}
END_TEST

START_TEST(what_the_daemon_needs_of_a_kernel_is_a_hint)
{
	check_process(findings, &(struct process_facts){0});
	expect("pidfd", CHECK_WARNING, 0);
	expect("same-file", CHECK_WARNING, 0);

	g_ptr_array_set_size(findings, 0);
	check_process(findings, &(struct process_facts){.peer_pidfd = true, .kcmp = true});
	expect("pidfd", CHECK_OK, 0);
	expect("same-file", CHECK_OK, 0);
}
END_TEST

START_TEST(limits_of_a_vmm_are_hints)
{
	check_limits(findings, &(struct limits){8 << 20, 1024}, "vm.service");
	expect("memlock", CHECK_WARNING, 0);
	expect("nofile", CHECK_WARNING, 0);

	g_ptr_array_set_size(findings, 0);
	check_limits(findings, &(struct limits){LIMIT_INFINITY, 524288}, "vm.service");
	expect("memlock", CHECK_OK, 0);
	expect("nofile", CHECK_OK, 0);
}
END_TEST

START_TEST(limits_of_the_shell_are_no_warning)
{
	check_limits(findings, &(struct limits){8 << 20, 1024}, NULL);
	expect("memlock", CHECK_UNKNOWN, 0);
	expect("nofile", CHECK_UNKNOWN, 0);
	ck_assert_uint_eq(findings_settle(findings, 0, ALL).good, BACKEND_ALL);
}
END_TEST

START_TEST(one_good_backend_is_enough)
{
	check_type1(findings, &(struct type1_facts){.error = ENOENT});
	check_iommufd(findings, root, &(struct iommufd_facts){0});
	ck_assert_uint_eq(findings_settle(findings, 0, ALL).good, BACKEND_IOMMUFD);
	ck_assert_int_eq(find("type1")->status, CHECK_WARNING);
}
END_TEST

START_TEST(two_bad_backends_stay_blockers)
{
	check_type1(findings, &(struct type1_facts){.error = ENOENT});
	check_iommufd(findings, root, &(struct iommufd_facts){.error = ENOENT});
	ck_assert_uint_eq(findings_settle(findings, 0, ALL).good, 0);
	ck_assert_int_eq(find("type1")->status, CHECK_BLOCKER);
	ck_assert_int_eq(find("iommufd")->status, CHECK_BLOCKER);
}
END_TEST

START_TEST(what_was_not_looked_into_is_neither_good_nor_bad)
{
	struct verdict verdict;

	check_type1(findings, &(struct type1_facts){.error = EACCES});
	check_iommufd(findings, root, &(struct iommufd_facts){.error = EPERM});
	expect("type1", CHECK_UNKNOWN, BACKEND_TYPE1);
	expect("iommufd", CHECK_UNKNOWN, BACKEND_IOMMUFD);
	verdict = findings_settle(findings, 0, ALL);
	ck_assert_uint_eq(verdict.good, 0);
	ck_assert_uint_eq(verdict.doubt, BACKEND_ALL);
}
END_TEST

START_TEST(what_is_ruled_out_is_in_no_doubt)
{
	struct verdict verdict;

	check_kernel(findings, "6.1.187", "x86_64");
	check_kernel(findings, "5.15.0", "x86_64");
	check_type1(findings, &(struct type1_facts){.error = EACCES});
	check_iommufd(findings, root, &(struct iommufd_facts){.error = EACCES});
	verdict = findings_settle(findings, 0, ALL);
	ck_assert_uint_eq(verdict.good, 0);
	ck_assert_uint_eq(verdict.doubt, BACKEND_IOMMUFD);
}
END_TEST

START_TEST(a_doubt_about_one_backend_leaves_the_other_good)
{
	struct verdict verdict;

	check_type1(findings,
		    &(struct type1_facts){.is_vfio = true, .type1v2 = true, .unmap_all = true});
	check_iommufd(findings, root, &(struct iommufd_facts){.error = EACCES});
	verdict = findings_settle(findings, 0, ALL);
	ck_assert_uint_eq(verdict.good, BACKEND_TYPE1);
	ck_assert_uint_eq(verdict.doubt, BACKEND_IOMMUFD);
}
END_TEST

START_TEST(groups_that_may_not_be_listed_are_not_missing)
{
	make_dir("sys/kernel/iommu_groups/12");
	hide("sys/kernel/iommu_groups");
	check_iommu(findings, root);
	leave_nobody();
	expect("iommu", CHECK_UNKNOWN, BACKEND_ALL);
}
END_TEST

START_TEST(without_sysfs_nothing_is_known_of_the_iommu)
{
	remove_node("sys/kernel");
	check_iommu(findings, root);
	expect("iommu", CHECK_UNKNOWN, BACKEND_ALL);
}
END_TEST

SUITE("hostcheck", host_make, host_remove)
{
	tcase_add_test(tests, a_kernel_before_6_0_rules_type1_out);
	tcase_add_test(tests, a_kernel_without_owner_change_is_a_warning);
	tcase_add_test(tests, kernels_from_6_1_stable_on_are_fine);
	tcase_add_test(tests, s390_is_ruled_out);
	tcase_add_test(tests, a_host_without_iommu_is_ruled_out);
	tcase_add_test(tests, noiommu_mode_leaves_iommufd);
	tcase_add_test(tests, a_host_with_iommu_groups_is_fine);
	tcase_add_test(tests, the_vfio_pci_driver_is_wanted_not_needed);
	tcase_add_test(tests, probing_a_root_without_nodes_tells_enoent);
	tcase_add_test(tests, what_is_no_container_is_told_from_one);
	tcase_add_test(tests, type1_facts_are_judged);
	tcase_add_test(tests, iommufd_without_change_process_is_ruled_out);
	tcase_add_test(tests, iommufd_needs_device_cdevs);
	tcase_add_test(tests, what_the_daemon_needs_of_a_kernel_is_a_hint);
	tcase_add_test(tests, limits_of_a_vmm_are_hints);
	tcase_add_test(tests, limits_of_the_shell_are_no_warning);
	tcase_add_test(tests, one_good_backend_is_enough);
	tcase_add_test(tests, two_bad_backends_stay_blockers);
	tcase_add_test(tests, what_was_not_looked_into_is_neither_good_nor_bad);
	tcase_add_test(tests, what_is_ruled_out_is_in_no_doubt);
	tcase_add_test(tests, a_doubt_about_one_backend_leaves_the_other_good);
	tcase_add_test(tests, groups_that_may_not_be_listed_are_not_missing);
	tcase_add_test(tests, without_sysfs_nothing_is_known_of_the_iommu);
}
