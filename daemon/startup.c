/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process, as its parent has made it: daemon/startup.h. */
#include "daemon/startup.h"

#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define ROOM_FDS 65536 /* half a MiB of the kernel's; it doubles that for who holds more */

/*
 * What would kill or stop the daemon and means nothing to it: a peer that hung up (SIGPIPE), a log
 * that may not grow (SIGXFSZ), a terminal that background processes may not write to (SIGTTOU), and
 * what others use for themselves, which somebody may send by mistake.
 */
static const int ignored[] = {SIGPIPE, SIGXFSZ, SIGTTOU,   SIGTTIN, SIGUSR1,   SIGUSR2,
			      SIGALRM, SIGIO,	SIGVTALRM, SIGPROF, SIGSTKFLT, SIGPWR};

/* If one is closed, a connection would get its number, and the log would be written to that. */
static void open_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	/* Without /dev/null: there is nowhere to say so. */
	if (fd < 0 && (fcntl(STDIN_FILENO, F_GETFD) < 0 || fcntl(STDOUT_FILENO, F_GETFD) < 0 ||
		       fcntl(STDERR_FILENO, F_GETFD) < 0))
		_exit(EXIT_FAILURE);
	if (fd >= 0)
		close(fd);
}

/*
 * Those that are blocked from the first line of main() until the loop runs. One that came earlier
 * would kill the daemon while it takes over what systemd has kept.
 */
static void hold_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(how, &set, NULL);
}

void startup_init(void)
{
	hold_signals(SIG_BLOCK);
	for (size_t i = 0; i < G_N_ELEMENTS(ignored); i++)
		signal(ignored[i], SIG_IGN);
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		signal(number, SIG_IGN);
	open_standard_descriptors();
}

void startup_take_signals(void)
{
	hold_signals(SIG_UNBLOCK);
}

/* What was left open by whoever started the daemon is not its to hold: a device, perhaps. */
void startup_close_strangers(void)
{
	int n = sd_listen_fds(0);

	close_range(SD_LISTEN_FDS_START + MAX(n, 0), ~0U, 0);
}

void startup_raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	limit = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &limit);
	}
}

/* The kernel makes the table as long as the highest number needs, and never shorter again. */
void startup_make_room(void)
{
	struct rlimit limit;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, (int)MIN(limit.rlim_cur, ROOM_FDS) - 1);
	if (fd >= 0)
		close(fd);
}
