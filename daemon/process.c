/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tells one process from another: daemon/process.h. */
#include "daemon/process.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "daemon/fdinfo.h"

#define PIDFS_MAGIC 0x50494446 /* PID_FS_MAGIC of Linux 6.9 */

bool process_lives(int pidfd)
{
	struct pollfd death = {.fd = pidfd, .events = POLLIN};

	return pidfd >= 0 && poll(&death, 1, 0) == 0;
}

pid_t process_number(int pidfd)
{
	char text[16];
	long number;

	if (!fdinfo_field(pidfd, "Pid:", text, sizeof(text)))
		return -ENOENT;
	number = strtol(text, NULL, 10);
	return number < 0 ? -ESRCH : (pid_t)number;
}

/*
 * While both live, neither number has been anybody else's since it was looked up. 0 is no number:
 * all processes of other PID namespaces have it.
 */
int process_same_by_number(int a, int b)
{
	pid_t x = process_number(a), y = process_number(b);

	if (!process_lives(a) || !process_lives(b))
		return 0;
	if (x <= 0 || y <= 0)
		return -ESRCH;
	return x == y;
}

/*
 * Since Linux 6.9 all pidfds of one process, and no others, share an inode, whose number is given
 * once between two boots: pidfs_alloc_file() and pidfs_add_pid() in fs/pidfs.c. Before, all pidfds
 * of all processes share that of anon_inode:[pidfd].
 */
int process_same(int a, int b)
{
	struct statfs fs;
	struct stat x, y;

	if (fstatfs(a, &fs) < 0)
		return -errno;
	if (fs.f_type != PIDFS_MAGIC)
		return process_same_by_number(a, b);
	if (fstat(a, &x) < 0 || fstat(b, &y) < 0)
		return -errno;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino && process_lives(a);
}
