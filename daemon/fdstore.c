/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* systemd's fd store by sd_notify: daemon/fdstore.h. */
#include "daemon/fdstore.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "daemon/log.h"
#include "daemon/worker.h"

#define BARRIER_USEC (10 * G_USEC_PER_SEC)

/*
 * systemd passes the names on as LISTEN_FDNAMES=a:b:c. execve() refuses a string of more than 32
 * pages, its NUL included (MAX_ARG_STRLEN in the kernel's include/uapi/linux/binfmts.h), with E2BIG.
 */
#define NAMES_MAX (32 * 4096 - sizeof("LISTEN_FDNAMES="))
#define NAMES_SOCKETS \
	2048 /* of these, for listening sockets: there may be more at the next start */
#define NAMES_ENTRIES \
	4096 /* as many are sure to find room, however long the first ones' names are */

static const struct timeval probe_pause = {.tv_sec = 30};

static gint silence; /* how the last barrier has ended: 0 or -errno; of threads */

static struct {
	unsigned int max, used;
	size_t names, sockets; /* bytes of their names, each with its colon */
	bool is_told;
} store;

void fdstore_init(unsigned int max)
{
	const char *told = getenv("FDSTORE"), *manager = getenv("NOTIFY_SOCKET");

	memset(&store, 0, sizeof(store));
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

unsigned int fdstore_part(unsigned int parts)
{
	return store.max / parts;
}

/* Whether so many more bytes of names can be handed to the next daemon. */
static bool names_fit(size_t bytes)
{
	return store.names + MAX(store.sockets, NAMES_SOCKETS) + bytes <= NAMES_MAX;
}

bool fdstore_has_room(unsigned int n)
{
	return store.used + n <= store.max && names_fit(n * (FDSTORE_SHORT + 1));
}

bool fdstore_may_be_called(const char *name)
{
	unsigned int sure = MIN(store.max, NAMES_ENTRIES);
	size_t others = sure > store.used ? sure - store.used - 1 : 0;

	return names_fit(strlen(name) + 1 + others * (FDSTORE_SHORT + 1));
}

char *fdstore_refusal(unsigned int n)
{
	if (store.used + n > store.max)
		return g_strdup_printf(
			"systemd's fd store has %u of at most %u descriptors, and has no room for one "
			"more session: raise FileDescriptorStoreMax of vfio-cprd.service, or release a "
			"session",
			store.used, store.max);
	if (!names_fit(n * (FDSTORE_SHORT + 1)))
		return g_strdup_printf(
			"the names of the %u descriptors in systemd's fd store are as long as the kernel "
			"lets systemd hand over to the next daemon: release a session; no larger "
			"FileDescriptorStoreMax helps",
			store.used);
	return NULL;
}

void fdstore_take(const char *name)
{
	store.used++;
	store.names += strlen(name) + 1;
}

void fdstore_give(const char *name)
{
	store.used--;
	store.names -= strlen(name) + 1;
}

void fdstore_take_socket(const char *name)
{
	store.sockets += strlen(name) + 1;
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

	r = r > 0 ? 0 : r < 0 ? r : -ENOTCONN;
	g_atomic_int_set(&silence, r);
	return r;
}

/* Whether anybody is there */

bool fdstore_is_gone(void)
{
	int error = g_atomic_int_get(&silence);

	return fdstore_exists() && error < 0 && error != -ETIMEDOUT;
}

const char *fdstore_trouble(void)
{
	if (fdstore_is_gone())
		return "nobody listens where systemd should (NOTIFY_SOCKET), so that nothing can be kept with it, "
		       "and no session be made: start the daemon as a service of systemd, or without that variable";
	if (fdstore_exists() && g_atomic_int_get(&silence) < 0)
		return "systemd has not answered for 10 seconds: until it does, no session can be made; what it "
		       "has is kept";
	return NULL;
}

static struct {
	struct event *again; /* NULL: it has ended */
	int told;	     /* what the log has, as in silence */
} probe;

static void probe_in_thread(void *result)
{
	*(int *)result = fdstore_barrier();
}

/* A line when it begins, changes or ends, and none each half minute. */
static void probe_done(void *data)
{
	g_autofree int *result = data;
	const char *trouble = fdstore_trouble(); /* NULL if another barrier was answered since */

	if (*result != probe.told && *result < 0 && trouble)
		log_warning(NULL, "%s (%s)", trouble, g_strerror(-*result));
	else if (*result != probe.told && *result == 0)
		log_notice(NULL, "systemd answers again");
	probe.told = *result;
	if (*result < 0 && probe.again)
		event_add(probe.again, &probe_pause);
}

static void on_probe(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	(void)data;
	/* It has nothing to finish, so that the daemon's end need not wait for it. */
	worker_run_or_hang(probe_in_thread, probe_done, g_new0(int, 1));
}

void fdstore_probe(struct event_base *base)
{
	if (!fdstore_exists())
		return;
	probe.again = evtimer_new(base, on_probe, NULL);
	on_probe(-1, 0, NULL);
}

void fdstore_forget(void)
{
	g_clear_pointer(&probe.again, event_free);
}
