/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprctl check, on hosts that this machine is not: each test builds the few files of sysfs
 * that matter in a directory of its own and says what must be made of them.
 */
#include <check.h>
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cprctl/hostcheck.h"

#define BDF   "0000:3b:00.0"
#define OTHER "0000:3b:00.1"
#define UUID  "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static char *root;
static Findings *findings;

static void setup(void)
{
	root = g_dir_make_tmp("hostcheck-XXXXXX", NULL);
	ck_assert_ptr_nonnull(root);
	findings = findings_new();
}

static void remove_tree(const char *path)
{
	if (g_file_test(path, G_FILE_TEST_IS_DIR) && !g_file_test(path, G_FILE_TEST_IS_SYMLINK)) {
		g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
		const char *name;

		while ((name = g_dir_read_name(dir))) {
			g_autofree char *child = g_build_filename(path, name, NULL);

			remove_tree(child);
		}
	}
	g_remove(path);
}

static void teardown(void)
{
	g_ptr_array_unref(findings);
	remove_tree(root);
	g_free(root);
}

static char *parent_made(const char *path)
{
	char *full = g_build_filename(root, path, NULL);
	g_autofree char *parent = g_path_get_dirname(full);

	ck_assert_int_eq(g_mkdir_with_parents(parent, 0700), 0);
	return full;
}

static void make_dir(const char *path)
{
	g_autofree char *full = parent_made(path);

	ck_assert_int_eq(g_mkdir_with_parents(full, 0700), 0);
}

static void make_file(const char *path, const char *content)
{
	g_autofree char *full = parent_made(path);

	ck_assert(g_file_set_contents(full, content, -1, NULL));
}

static void make_link(const char *path, const char *target)
{
	g_autofree char *full = parent_made(path);

	ck_assert_int_eq(symlink(target, full), 0);
}

#define PATH(...) (g_snprintf(path, sizeof(path), __VA_ARGS__), path)

/* A PCI device. driver, vfio: NULL for none. cdev: whether vfio has a cdev and its node. */
static void make_device(const char *bdf, const char *driver, const char *group, const char *vfio,
			bool cdev)
{
	char path[256];

	make_dir(PATH("sys/bus/pci/devices/%s", bdf));
	if (driver) {
		g_autofree char *target = g_strdup_printf("../../../bus/pci/drivers/%s", driver);

		make_link(PATH("sys/bus/pci/devices/%s/driver", bdf), target);
	}
	if (group) {
		g_autofree char *target = g_strdup_printf("../../../kernel/iommu_groups/%s", group);

		make_link(PATH("sys/bus/pci/devices/%s/iommu_group", bdf), target);
		make_dir(PATH("sys/kernel/iommu_groups/%s/devices/%s", group, bdf));
		make_file(PATH("dev/vfio/%s", group), "");
	}
	if (vfio)
		make_dir(PATH("sys/bus/pci/devices/%s/vfio-dev/%s", bdf, vfio));
	if (vfio && cdev) {
		make_file(PATH("sys/bus/pci/devices/%s/vfio-dev/%s/dev", bdf, vfio), "511:0\n");
		make_file(PATH("dev/vfio/devices/%s", vfio), "");
	}
}

static const struct finding *find(const char *check)
{
	for (guint i = 0; i < findings->len; i++) {
		const struct finding *finding = findings->pdata[i];

		if (g_str_equal(finding->check, check))
			return finding;
	}
	ck_abort_msg("there is no finding %s", check);
	return NULL;
}

static void expect(const char *check, enum check_status status, unsigned int blocks)
{
	const struct finding *finding = find(check);

	ck_assert_msg(finding->status == status && finding->blocks == blocks,
		      "%s %s: status %d, blocks %u: %s", check, finding->subject, finding->status,
		      finding->blocks, finding->detail);
	ck_assert(status == CHECK_OK || finding->remedy);
}

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
		{{.error = EACCES}, CHECK_BLOCKER},
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

START_TEST(limits_are_hints)
{
	check_process(findings, &(struct process_facts){.memlock = 8 << 20, .nofile = 1024});
	expect("memlock", CHECK_WARNING, 0);
	expect("nofile", CHECK_WARNING, 0);
	expect("pidfd", CHECK_WARNING, 0);
	expect("same-file", CHECK_WARNING, 0);

	g_ptr_array_set_size(findings, 0);
	check_process(findings, &(struct process_facts){.memlock = LIMIT_INFINITY,
							.nofile = 524288,
							.peer_pidfd = true,
							.kcmp = true});
	for (guint i = 0; i < findings->len; i++)
		ck_assert_int_eq(((struct finding *)findings->pdata[i])->status, CHECK_OK);
}
END_TEST

START_TEST(one_good_backend_is_enough)
{
	check_type1(findings, &(struct type1_facts){.error = ENOENT});
	check_iommufd(findings, root, &(struct iommufd_facts){0});
	ck_assert_uint_eq(findings_settle(findings, 0, BACKEND_ALL), BACKEND_IOMMUFD);
	ck_assert_int_eq(find("type1")->status, CHECK_WARNING);
}
END_TEST

START_TEST(two_bad_backends_stay_blockers)
{
	check_type1(findings, &(struct type1_facts){.error = ENOENT});
	check_iommufd(findings, root, &(struct iommufd_facts){.error = ENOENT});
	ck_assert_uint_eq(findings_settle(findings, 0, BACKEND_ALL), 0);
	ck_assert_int_eq(find("type1")->status, CHECK_BLOCKER);
	ck_assert_int_eq(find("iommufd")->status, CHECK_BLOCKER);
}
END_TEST

START_TEST(a_device_of_vfio_pci_in_its_own_group_is_fine)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	check_device(findings, root, BDF);
	expect("device-driver", CHECK_OK, 0);
	expect("device-group", CHECK_OK, 0);
	expect("device-cdev", CHECK_OK, 0);
	ck_assert_uint_eq(findings->len, 3);
}
END_TEST

START_TEST(a_device_may_be_named_without_its_domain)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	check_device(findings, root, "3B:00.0");
	expect("device-driver", CHECK_OK, 0);
}
END_TEST

START_TEST(a_variant_driver_is_as_good)
{
	make_device(BDF, "mlx5_vfio_pci", "12", "vfio0", true);
	make_device(OTHER, "some-variant", "12", "vfio1", true);
	check_device(findings, root, BDF);
	check_device(findings, root, OTHER);
	ck_assert_uint_eq(findings_settle(findings, 0, BACKEND_ALL), BACKEND_ALL);
}
END_TEST

START_TEST(a_device_of_a_host_driver_is_ruled_out_with_the_commands)
{
	make_device(BDF, "nvme", "12", NULL, false);
	check_device(findings, root, BDF);
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
	check_device(findings, root, BDF);
	expect("device-driver", CHECK_BLOCKER, BACKEND_ALL);
	ck_assert_ptr_null(strstr(find("device-driver")->remedy, "unbind"));
}
END_TEST

START_TEST(a_group_shared_with_a_host_driver_is_not_viable)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	make_device(OTHER, "xhci_hcd", "12", NULL, false);
	check_device(findings, root, BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_ALL);
	ck_assert_ptr_nonnull(strstr(find("device-group")->detail, OTHER " (xhci_hcd)"));
}
END_TEST

START_TEST(a_group_shared_with_bridges_and_unbound_devices_is_viable)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	make_device(OTHER, NULL, "12", NULL, false);
	make_device("0000:3a:00.0", "pcieport", "12", NULL, false);
	check_device(findings, root, BDF);
	expect("device-group", CHECK_OK, 0);
}
END_TEST

START_TEST(a_device_without_group_is_ruled_out)
{
	make_device(BDF, "vfio-pci", NULL, "vfio0", true);
	check_device(findings, root, BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_ALL);
}
END_TEST

START_TEST(a_missing_cdev_rules_iommufd_out_only)
{
	/* vfio-dev/ is there without cdevs too; its file dev is not. */
	make_device(BDF, "vfio-pci", "12", "vfio0", false);
	check_device(findings, root, BDF);
	expect("device-cdev", CHECK_BLOCKER, BACKEND_IOMMUFD);
	ck_assert_uint_eq(findings_settle(findings, 0, BACKEND_ALL), BACKEND_TYPE1);
}
END_TEST

START_TEST(a_missing_cdev_matters_where_only_iommufd_works)
{
	make_device(BDF, "vfio-pci", "12", "vfio0", false);
	check_device(findings, root, BDF);
	ck_assert_uint_eq(findings_settle(findings, 0, BACKEND_IOMMUFD), 0);
	ck_assert_int_eq(find("device-cdev")->status, CHECK_BLOCKER);
}
END_TEST

START_TEST(a_missing_group_node_rules_type1_out)
{
	g_autofree char *node = g_strconcat(root, "/dev/vfio/12", NULL);

	make_device(BDF, "vfio-pci", "12", "vfio0", true);
	g_remove(node);
	check_device(findings, root, BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_TYPE1);
}
END_TEST

START_TEST(noiommu_rules_type1_out)
{
	make_device(BDF, "vfio-pci", "0", "noiommu-vfio0", true);
	make_file("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
	check_device(findings, root, BDF);
	expect("device-group", CHECK_BLOCKER, BACKEND_TYPE1);
	expect("device-cdev", CHECK_OK, 0);
}
END_TEST

START_TEST(an_mdev_rules_type1_out)
{
	make_link("sys/bus/mdev/devices/" UUID "/driver", "../../../bus/mdev/drivers/vfio_mtty");
	make_file("sys/bus/mdev/devices/" UUID "/vfio-dev/vfio3/dev", "511:3\n");
	make_file("dev/vfio/devices/vfio3", "");
	check_device(findings, root, UUID);
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
		check_device(findings, root, names[i]);
		expect("device", CHECK_BLOCKER, BACKEND_ALL);
	}
}
END_TEST

START_TEST(devices_of_vfio_drivers_are_found)
{
	make_device("0000:00:02.0", "i915", "1", NULL, false);
	make_device(OTHER, "vfio-pci", "13", "vfio1", true);
	make_device(BDF, "vfio-pci", "12", NULL, false);
	make_device("0000:3c:00.0", NULL, "14", NULL, false);

	g_autoptr(GPtrArray) names = devices_of_vfio(root);

	ck_assert_uint_eq(names->len, 2);
	ck_assert_str_eq(names->pdata[0], BDF);
	ck_assert_str_eq(names->pdata[1], OTHER);
}
END_TEST

static Suite *suite(void)
{
	const TTest *const tests[] = {
		a_kernel_before_6_0_rules_type1_out,
		a_kernel_without_owner_change_is_a_warning,
		kernels_from_6_1_stable_on_are_fine,
		s390_is_ruled_out,
		a_host_without_iommu_is_ruled_out,
		noiommu_mode_leaves_iommufd,
		a_host_with_iommu_groups_is_fine,
		the_vfio_pci_driver_is_wanted_not_needed,
		probing_a_root_without_nodes_tells_enoent,
		what_is_no_container_is_told_from_one,
		type1_facts_are_judged,
		iommufd_without_change_process_is_ruled_out,
		iommufd_needs_device_cdevs,
		limits_are_hints,
		one_good_backend_is_enough,
		two_bad_backends_stay_blockers,
		a_device_of_vfio_pci_in_its_own_group_is_fine,
		a_device_may_be_named_without_its_domain,
		a_variant_driver_is_as_good,
		a_device_of_a_host_driver_is_ruled_out_with_the_commands,
		a_device_without_driver_needs_no_unbind,
		a_group_shared_with_a_host_driver_is_not_viable,
		a_group_shared_with_bridges_and_unbound_devices_is_viable,
		a_device_without_group_is_ruled_out,
		a_missing_cdev_rules_iommufd_out_only,
		a_missing_cdev_matters_where_only_iommufd_works,
		a_missing_group_node_rules_type1_out,
		noiommu_rules_type1_out,
		an_mdev_rules_type1_out,
		a_device_that_is_not_there_is_a_blocker,
		devices_of_vfio_drivers_are_found,
	};
	Suite *s = suite_create("hostcheck");
	TCase *tcase = tcase_create("hostcheck");

	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(s, tcase);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
