/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which numbers drivers have: daemon/devnumbers.h. */
#include "daemon/devnumbers.h"

#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

#define MISC_MAJOR 10
#define TEXT_BYTES 16384 /* some lines of twenty bytes for each driver of the host */

static int devices = -1, misc = -1;

bool devnumbers_begin(void)
{
	static gsize once;

	if (g_once_init_enter(&once)) {
		devices = open("/proc/devices", O_RDONLY | O_CLOEXEC);
		misc = open("/proc/misc", O_RDONLY | O_CLOEXEC);
		g_once_init_leave(&once, 1);
	}
	return devices >= 0 && misc >= 0;
}

void devnumbers_end(void)
{
	fd_close(&devices);
	fd_close(&misc);
}

/* The file as it is now; what is beyond the buffer is left out. */
static void read_text(int fd, char *ret_text, size_t size)
{
	size_t n = 0;
	ssize_t more;

	do {
		more = pread(fd, ret_text + n, size - 1 - n, n);
		n += MAX(more, 0);
	} while (more > 0);
	ret_text[n] = '\0';
}

/* Whether a line before `end` (NULL: any) says that the number is that name's. */
static bool has_line(int fd, const char *end, unsigned int number, const char *name)
{
	char text[TEXT_BYTES], *limit;
	g_auto(GStrv) lines = NULL;

	read_text(fd, text, sizeof(text));
	limit = end ? strstr(text, end) : NULL;
	if (limit)
		*limit = '\0';
	lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		unsigned int found;
		char found_name[64];

		if (sscanf(*line, "%u %63s", &found, found_name) == 2 && found == number &&
		    strcmp(found_name, name) == 0)
			return true;
	}
	return false;
}

bool devnumbers_is_driver(unsigned int major_number, const char *driver)
{
	devnumbers_begin();
	return has_line(devices, "Block devices:", major_number, driver);
}

bool devnumbers_is_misc(unsigned int major_number, unsigned int minor_number, const char *name)
{
	devnumbers_begin();
	return major_number == MISC_MAJOR && has_line(misc, NULL, minor_number, name);
}
