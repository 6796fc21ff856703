/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the leak sanitizer is for memory: descriptors still open at the daemon's end. */
#include "daemon/leakcheck.h"

#ifdef __SANITIZE_ADDRESS__

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int leakcheck_descriptors(void)
{
	DIR *fds = opendir("/proc/self/fd");
	struct dirent *entry;
	int leaked = 0;

	while (fds && (entry = readdir(fds))) {
		char target[PATH_MAX];
		int fd = atoi(entry->d_name);
		ssize_t n;

		if (fd <= STDERR_FILENO || fd == dirfd(fds))
			continue;
		n = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		fprintf(stderr, "ERROR: descriptor %d leaked: %s\n", fd, target);
		leaked++;
	}
	if (fds)
		closedir(fds);
	return leaked;
}

#else

int leakcheck_descriptors(void)
{
	return 0;
}

#endif
