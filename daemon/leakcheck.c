/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the leak sanitizer is for memory: descriptors still open at the daemon's end. */
#include "daemon/leakcheck.h"

#ifdef __SANITIZE_ADDRESS__

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* GLib never closes its socket to the journal. It is the only datagram socket in this process. */
static bool is_datagram_socket(int fd)
{
	socklen_t length = sizeof(int);
	int type = 0;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_DGRAM;
}

int leakcheck_descriptors(void)
{
	DIR *fds = opendir("/proc/self/fd");
	struct dirent *entry;
	int leaked = 0;

	while (fds && (entry = readdir(fds))) {
		char target[PATH_MAX];
		int fd = atoi(entry->d_name);
		ssize_t n;

		if (fd <= STDERR_FILENO || fd == dirfd(fds) || is_datagram_socket(fd))
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

bool leakcheck_is_on(void)
{
	return true;
}

#else

int leakcheck_descriptors(void)
{
	return 0;
}

bool leakcheck_is_on(void)
{
#ifdef __has_feature
	return __has_feature(address_sanitizer); /* clang's */
#else
	return false;
#endif
}

#endif
