/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See hostroot.h. */
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/hostroot.h"

#define NOBODY 65534

char *root;
Findings *findings;

void host_make(void)
{
	root = g_dir_make_tmp("hostcheck-XXXXXX", NULL);
	ck_assert_ptr_nonnull(root);
	ck_assert_int_eq(chmod(root, 0755), 0);
	make_dir("sys/kernel");
	findings = findings_new();
}

static void remove_tree(const char *path)
{
	/* hide() may have been here; of a link, chmod() would meet the target. */
	if (!g_file_test(path, G_FILE_TEST_IS_SYMLINK))
		(void)!chmod(path, 0700);
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

void host_remove(void)
{
	g_ptr_array_unref(findings);
	remove_tree(root);
	g_free(root);
}

static char *parent_made(const char *path)
{
	char *full = g_build_filename(root, path, NULL);
	g_autofree char *parent = g_path_get_dirname(full);

	ck_assert_int_eq(g_mkdir_with_parents(parent, 0755), 0);
	return full;
}

void make_dir(const char *path)
{
	g_autofree char *full = parent_made(path);

	ck_assert_int_eq(g_mkdir_with_parents(full, 0755), 0);
}

void make_file(const char *path, const char *content)
{
	g_autofree char *full = parent_made(path);

	ck_assert(g_file_set_contents(full, content, -1, NULL));
}

void make_link(const char *path, const char *target)
{
	g_autofree char *full = parent_made(path);

	ck_assert_int_eq(symlink(target, full), 0);
}

#define PATH(...) (g_snprintf(path, sizeof(path), __VA_ARGS__), path)

void make_device(const char *bdf, const char *driver, const char *group, const char *vfio,
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

void remove_node(const char *path)
{
	g_autofree char *full = g_build_filename(root, path, NULL);

	ck_assert_int_eq(g_remove(full), 0);
}

void hide(const char *path)
{
	g_autofree char *full = g_build_filename(root, path, NULL);

	ck_assert_int_eq(chmod(full, geteuid() ? 0 : 0700), 0);
	if (!geteuid())
		ck_assert_int_eq(seteuid(NOBODY), 0);
}

void leave_nobody(void)
{
	if (!getuid())
		ck_assert_int_eq(seteuid(0), 0);
}

bool has(const char *check)
{
	for (guint i = 0; i < findings->len; i++)
		if (g_str_equal(((struct finding *)findings->pdata[i])->check, check))
			return true;
	return false;
}

const struct finding *find(const char *check)
{
	for (guint i = 0; i < findings->len; i++) {
		const struct finding *finding = findings->pdata[i];

		if (g_str_equal(finding->check, check))
			return finding;
	}
	ck_abort_msg("there is no finding %s", check);
	return NULL;
}

void expect(const char *check, enum check_status status, unsigned int blocks)
{
	const struct finding *finding = find(check);

	ck_assert_msg(finding->status == status && finding->blocks == blocks,
		      "%s %s: status %d, blocks %u: %s", check, finding->subject, finding->status,
		      finding->blocks, finding->detail);
	ck_assert(status == CHECK_OK || finding->remedy);
}
