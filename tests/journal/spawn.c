/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spawn PROGRAM ARGUMENT...: becomes the program, with its own pid in LISTEN_PID and nothing open
 * but what LISTEN_FDS counts, as systemd's child does between fork and exec. pid1.py cannot: a fork() of Python costs more than the daemon's
 * start. Linked statically, for the same reason.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *fds = getenv("LISTEN_FDS");
	char pid[16];

	if (argc < 2 || !fds)
		return 2;
	close_range(3 + atoi(fds), ~0U, 0);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
