/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One owned descriptor: closed at the end of its scope unless taken. */
#ifndef COMMON_FD_H
#define COMMON_FD_H

#include <errno.h>
#include <unistd.h>

static inline void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define auto_fd __attribute__((cleanup(fd_close))) int

#endif
