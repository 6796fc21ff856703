/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counts of eventfds: daemon/pending.h. */
#include "daemon/pending.h"

#include <poll.h>

#include "daemon/fdinfo.h"

#define COST_OF_FDINFO 16 /* opening, reading and closing a file of /proc takes as long as that */
#define COST_OF_POLL   8

/* The count of an eventfd, in hexadecimal; reading the eventfd would consume it. */
static uint64_t read_count(int fd)
{
	char text[32];
	uint64_t count = fdinfo_field(fd, "eventfd-count:", text, sizeof(text))
				 ? g_ascii_strtoull(text, NULL, 16)
				 : 0;

	return MIN(count, (uint64_t)INT64_MAX);
}

void pending_look(const int *fds, guint n, uint64_t ret_counts[PENDING_AT_ONCE], unsigned int *cost)
{
	struct pollfd polls[PENDING_AT_ONCE];
	int ready;

	for (guint i = 0; i < n; i++)
		polls[i] = (struct pollfd){fds[i], POLLIN, 0};
	/* poll() finds the few that have something, so that thousands of idle ones cost little. */
	ready = poll(polls, n, 0);
	*cost += COST_OF_POLL;
	for (guint i = 0; i < n; i++) {
		bool waits = ready > 0 && polls[i].fd >= 0 && polls[i].revents;

		ret_counts[i] = waits ? read_count(polls[i].fd) : 0;
		*cost += waits ? COST_OF_FDINFO : 1;
	}
}
