/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the journal adds to a Store call: journal SOCKET-WITHOUT SOCKET-WITH ROUNDS N. Each round
 * stores N eventfds in one call to a daemon without an fd store and to one with.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/bench.h"

#define CALLS_A_SESSION 32

static void measure(const char *socket, const char *who, int *fds, size_t n, bool is_reported)
{
	struct vfio_cpr *cpr = attach_new(socket, "vm");

	for (int i = 0; i < CALLS_A_SESSION; i++) {
		struct object *object;
		uint64_t start;
		char name[16];

		make_eventfds(fds, n);
		snprintf(name, sizeof(name), "vectors%d", i);
		object = object_new(OBJECT_EVENTFD, name);
		for (size_t j = 0; j < n; j++)
			object_set_fd(object, j, fds[j]);
		start = now_ns();
		check_cpr(inventory_store(cpr, &object, 1), cpr, "store");
		if (is_reported)
			report_usec("journal", n, who, start, now_ns());
	}
	check_cpr(vfio_cpr_release(cpr), cpr, "release");
	vfio_cpr_close(cpr);
}

int main(int argc, char **argv)
{
	int rounds = argc > 4 ? atoi(argv[3]) : 0;
	size_t n = argc > 4 ? strtoul(argv[4], NULL, 0) : 0;
	int *fds = g_new(int, n);

	raise_nofile();
	for (int round = -1; round < rounds; round++) {
		measure(argv[1], "floor", fds, n, round >= 0);
		measure(argv[2], "ours", fds, n, round >= 0);
	}
	return 0;
}
