/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* systemd's fd store by sd_notify: daemon/fdstore.h. */
#include "daemon/fdstore.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#define BARRIER_USEC (10 * G_USEC_PER_SEC)

static struct {
	unsigned int max, used;
	bool is_told;
} store;

void fdstore_init(unsigned int max)
{
	const char *told = getenv("FDSTORE"), *manager = getenv("NOTIFY_SOCKET");

	store.max = 0;
	store.is_told = told;
	if (manager && *manager)
		store.max = told ? strtoul(told, NULL, 10) : max;
}

bool fdstore_exists(void)
{
	return store.max > 0;
}

bool fdstore_outlives_stop(void)
{
	return fdstore_exists() && store.is_told;
}

bool fdstore_has_room(unsigned int n)
{
	return store.used + n <= store.max;
}

void fdstore_take(unsigned int n)
{
	store.used += n;
}

void fdstore_give(unsigned int n)
{
	store.used -= MIN(n, store.used);
}

int fdstore_add(const char *name, int fd)
{
	g_autofree char *state = g_strdup_printf("FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	int r = sd_pid_notify_with_fds(0, 0, state, &fd, 1);

	return r > 0 ? 0 : r < 0 ? r : -ENOTCONN;
}

int fdstore_remove(const char *name)
{
	g_autofree char *state = g_strdup_printf("FDSTOREREMOVE=1\nFDNAME=%s", name);
	int r = sd_notify(0, state);

	return r > 0 ? 0 : r < 0 ? r : -ENOTCONN;
}

int fdstore_barrier(void)
{
	int r = sd_notify_barrier(0, BARRIER_USEC);

	return r > 0 ? 0 : r < 0 ? r : -ENOTCONN;
}
