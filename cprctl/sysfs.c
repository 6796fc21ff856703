/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Small questions to sysfs: what is in a file or directory, and what a link names. What is not
 * there and what may not be looked at are two answers, and are kept apart: the first is a fact
 * about the host, the second only one about whoever asks.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cprctl/hostcheck.h"

/* The caller may ask many questions before it looks at the error: the first one stays. */
static void note(int *error, int found)
{
	if (error && !*error && found && found != ENOENT && found != ENOTDIR)
		*error = -found;
}

static void note_gerror(int *error, const GError *failure)
{
	switch (failure->code) {
	case G_FILE_ERROR_NOENT:
	case G_FILE_ERROR_NOTDIR:
		return;
	case G_FILE_ERROR_ACCES:
		note(error, EACCES);
		return;
	case G_FILE_ERROR_PERM:
		note(error, EPERM);
		return;
	default:
		note(error, EIO);
	}
}

bool sysfs_exists(const char *path, int *error)
{
	struct stat status;

	if (stat(path, &status) == 0)
		return true;
	note(error, errno);
	return false;
}

char *sysfs_read(const char *path, int *error)
{
	g_autoptr(GError) failure = NULL;
	char *content = NULL;

	if (g_file_get_contents(path, &content, NULL, &failure))
		return g_strchomp(content);
	note_gerror(error, failure);
	return NULL;
}

char *sysfs_link(const char *path, int *error)
{
	char target[4096];
	ssize_t length = readlink(path, target, sizeof(target) - 1);

	if (length < 0) {
		note(error, errno);
		return NULL;
	}
	target[length] = '\0';
	return g_path_get_basename(target);
}

static int compare(gconstpointer a, gconstpointer b)
{
	return g_strcmp0(*(char *const *)a, *(char *const *)b);
}

GPtrArray *sysfs_list(const char *path, int *error)
{
	GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) failure = NULL;
	g_autoptr(GDir) dir = g_dir_open(path, 0, &failure);
	const char *name;

	if (!dir)
		note_gerror(error, failure);
	while (dir && (name = g_dir_read_name(dir)))
		g_ptr_array_add(names, g_strdup(name));
	g_ptr_array_sort(names, compare);
	return names;
}
