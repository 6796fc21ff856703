/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel tells of a descriptor: daemon/fdinfo.h. */
#include "daemon/fdinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

#define TEXT_BYTES 4096 /* of an fdinfo: an eventfd's and a device's are far shorter */

/* Opened once, by the first thread that asks; they are this process's, also in its threads. */
static int links = -1, infos = -1;

static int open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int fdinfo_begin(void)
{
	static gsize once;

	if (g_once_init_enter(&once)) {
		links = open_directory("/proc/self/fd");
		infos = open_directory("/proc/self/fdinfo");
		g_once_init_leave(&once, 1);
	}
	return MIN(MIN(links, infos), 0);
}

void fdinfo_end(void)
{
	fd_close(&links);
	fd_close(&infos);
}

int fdinfo_link(int fd, char *ret_target, size_t size)
{
	char name[16];
	ssize_t n;
	int r = fdinfo_begin();

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%d", fd);
	n = readlinkat(links, name, ret_target, size - 1);
	if (n < 0)
		return -errno;
	ret_target[n] = '\0';
	return 0;
}

static bool read_text(int fd, char *ret_text, size_t size)
{
	char name[16];
	auto_fd info = -1;
	ssize_t n;

	snprintf(name, sizeof(name), "%d", fd);
	info = openat(infos, name, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, ret_text, size - 1);
	ret_text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

bool fdinfo_field(int fd, const char *key, char *ret_value, size_t size)
{
	char text[TEXT_BYTES];
	const char *line;

	if (fdinfo_begin() < 0 || !read_text(fd, text, sizeof(text)))
		return false;
	line = strstr(text, key);
	if (!line)
		return false;
	line += strlen(key);
	line += strspn(line, " \t");
	g_strlcpy(ret_value, line, size);
	ret_value[strcspn(ret_value, "\n")] = '\0';
	return true;
}
