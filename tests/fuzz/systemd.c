/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sd_notify(3) and sd_listen_fds(3), linked in the place of libsystemd's: tests/fuzz/systemd.h. It may
 * drop an entry without a word, as the real one does when its store is full, or be too busy.
 */
#include "tests/fuzz/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/scm.h"
#include "tests/fuzz/world.h"

#define ENTRIES_MAX 64
#define OWN_FDS	    140 /* beyond where the daemon looks for what it gets */

enum breakage {
	WORKS,
	DROPS, /* what is stored next */
	FULL,  /* from now on */
	BUSY,  /* a barrier does not come back in time */
	BREAKAGES,
};

struct entry {
	char name[256];
	int fd;
};

static struct {
	struct entry entries[ENTRIES_MAX];
	unsigned int n;
	enum breakage breakage;
	bool has_broken;
	bool handed_over;
	int journal; /* the sending end of the one that is being made up, or -1 */
} systemd;

void systemd_begin(void)
{
	setenv("NOTIFY_SOCKET", "/made/up", 1);
	setenv("FDSTORE", "48", 1);
	systemd.breakage = WORKS;
	systemd.has_broken = false;
	systemd.journal = -1;
	systemd.handed_over = false;
}

void systemd_end(void)
{
	fd_close(&systemd.journal);
	for (unsigned int i = 0; i < systemd.n; i++)
		close(systemd.entries[i].fd);
	systemd.n = 0;
}

void systemd_hand_over(void)
{
	fd_close(&systemd.journal);
	systemd.handed_over = true;
	systemd.breakage = WORKS;
	for (unsigned int i = 0; i < systemd.n; i++)
		g_assert(dup3(systemd.entries[i].fd, SD_LISTEN_FDS_START + i, O_CLOEXEC) >= 0);
}

void world_break_store(unsigned int how)
{
	systemd.breakage = how % BREAKAGES;
}

bool systemd_has_broken(void)
{
	return systemd.has_broken;
}

static void store(const char *name, int fd)
{
	struct entry *entry = &systemd.entries[systemd.n];

	if (systemd.breakage == DROPS || systemd.breakage == FULL || systemd.n == ENTRIES_MAX) {
		systemd.has_broken = true;
		if (systemd.breakage == DROPS)
			systemd.breakage = WORKS;
		return;
	}
	entry->fd = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS);
	g_assert(entry->fd >= 0);
	g_strlcpy(entry->name, name, sizeof(entry->name));
	systemd.n++;
}

static void drop(const char *name)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < systemd.n; i++)
		if (strcmp(systemd.entries[i].name, name) == 0)
			close(systemd.entries[i].fd);
		else
			systemd.entries[kept++] = systemd.entries[i];
	systemd.n = kept;
}

static const char *name_in(const char *state)
{
	const char *name = strstr(state, "FDNAME=");

	return name ? name + strlen("FDNAME=") : "";
}

int sd_pid_notify_with_fds(pid_t pid, int unset, const char *state, const int *fds, unsigned n_fds)
{
	(void)pid;
	(void)unset;
	if (n_fds == 1 && strstr(state, "FDSTORE=1"))
		store(name_in(state), fds[0]);
	return 1;
}

int sd_notify(int unset, const char *state)
{
	(void)unset;
	if (strstr(state, "FDSTOREREMOVE=1"))
		drop(name_in(state));
	return 1;
}

int sd_notify_barrier(int unset, uint64_t timeout)
{
	(void)unset;
	(void)timeout;
	if (systemd.breakage != BUSY)
		return 1;
	systemd.has_broken = true;
	systemd.breakage = WORKS;
	return -ETIMEDOUT;
}

int sd_listen_fds(int unset)
{
	(void)unset;
	return systemd.handed_over ? systemd.n : 0;
}

int sd_listen_fds_with_names(int unset, char ***ret_names)
{
	int n = sd_listen_fds(unset);

	*ret_names = calloc(n + 1, sizeof(char *));
	for (int i = 0; i < n; i++)
		(*ret_names)[i] = strdup(systemd.entries[i].name);
	systemd.handed_over = false;
	return n;
}

/* Half of all processes are in a unit. */
int sd_pid_get_unit(pid_t pid, char **ret_unit)
{
	if (pid % 2 == 0)
		return -ENODATA;
	*ret_unit = strdup("vm.service");
	return 0;
}

/* Journals that no daemon has written */

/* What a service may call an entry of the store. */
static char *printable_name(const char *name, size_t length)
{
	char *printable = g_strndup(name, MIN(length, 100));

	for (char *p = printable; *p; p++)
		if (!g_ascii_isgraph(*p) || *p == ':')
			*p = '_';
	return printable;
}

void systemd_journal(const char *name, size_t length, bool has_twin)
{
	g_autofree char *printable = printable_name(name, length);
	g_autofree char *receive = g_strdup_printf("journal-%s-r", printable);
	g_autofree char *send = g_strdup_printf("journal-%s-s", printable);
	int ends[2];

	fd_close(&systemd.journal);
	g_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	store(receive, ends[0]);
	if (has_twin)
		store(send, ends[1]);
	close(ends[0]);
	systemd.journal = fcntl(ends[1], F_DUPFD_CLOEXEC, OWN_FDS);
	close(ends[1]);
}

int systemd_sending_end(void)
{
	return systemd.journal >= 0 ? fcntl(systemd.journal, F_DUPFD_CLOEXEC, 0)
				    : eventfd(0, EFD_CLOEXEC);
}

void world_record(const char *kinds, const char *text, size_t size)
{
	struct iovec iov = {(char *)text, size};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	union scm_buffer control;
	int fds[SCM_MAX_FDS];
	size_t n;

	if (systemd.journal < 0)
		return;
	n = world_descriptors(kinds, fds, SCM_MAX_FDS);
	scm_pack(&header, &control, fds, n);
	(void)sendmsg(systemd.journal, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}
