/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel tells of a descriptor: daemon/fdinfo.h. */
#include "daemon/fdinfo.h"

#include <glib.h>
#include <string.h>

bool fdinfo_field(int fd, const char *key, char *ret_value, size_t size)
{
	g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", fd);
	g_autofree char *text = NULL;
	const char *line;

	if (!g_file_get_contents(path, &text, NULL, NULL))
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
