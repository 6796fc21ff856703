/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small questions to sysfs: what is in a file or directory, and what a link names. */
#include "cprctl/hostcheck.h"

bool sysfs_exists(const char *path)
{
	return g_file_test(path, G_FILE_TEST_EXISTS);
}

char *sysfs_read(const char *path)
{
	char *content = NULL;

	if (!g_file_get_contents(path, &content, NULL, NULL))
		return NULL;
	return g_strchomp(content);
}

char *sysfs_link(const char *path)
{
	g_autofree char *target = g_file_read_link(path, NULL);

	return target ? g_path_get_basename(target) : NULL;
}

static int compare(gconstpointer a, gconstpointer b)
{
	return g_strcmp0(*(char *const *)a, *(char *const *)b);
}

GPtrArray *sysfs_list(const char *path)
{
	GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir)))
		g_ptr_array_add(names, g_strdup(name));
	g_ptr_array_sort(names, compare);
	return names;
}
