/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The peer that is systemd's own fd store: peer-systemd N, as a service of Type=notify. Its first
 * start stores N eventfds; every other one is given them, and tells when it has them all. Since
 * they come with a start alone, what they cost is told from the end of the process before.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "tests/bench/bench.h"

static void store(size_t n)
{
	int *fds = g_new(int, n);
	uint64_t start;

	make_eventfds(fds, n);
	start = now_ns();
	for (size_t i = 0; i < n; i++) {
		g_autofree char *message =
			g_strdup_printf("FDSTORE=1\nFDPOLL=0\nFDNAME=vector%zu", i);

		check(sd_pid_notify_with_fds(0, false, message, &fds[i], 1), "FDSTORE");
	}
	check(sd_notify_barrier(0, UINT64_MAX), "barrier");
	report_usec("store", n, "systemd", start, now_ns());
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
	sigset_t end;
	int given, number;

	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigprocmask(SIG_BLOCK, &end, NULL);
	given = check(sd_listen_fds(false), "sd_listen_fds");
	for (int i = 0; i < given; i++)
		check_errno(fcntl(SD_LISTEN_FDS_START + i, F_GETFD), "a descriptor");
	if (given == (int)n)
		printf("given %" PRIu64 "\n", now_ns());
	else if (given == 0)
		store(n);
	else
		check(-EIO, "what systemd gave back");
	fflush(stdout);
	sd_notify(0, "READY=1");
	sigwait(&end, &number);
	printf("ends %" PRIu64 "\n", now_ns());
	return 0;
}
