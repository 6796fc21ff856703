/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes and their connections, and the life of a daemon among them: tests/fuzz/world.h. */
#include "tests/fuzz/world.h"

#include <fcntl.h>
#include <glib.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/frame.h"
#include "daemon/eventfdcheck.h"
#include "daemon/fdinfo.h"
#include "daemon/fdstore.h"
#include "daemon/keep.h"
#include "daemon/methods.h"
#include "daemon/recovery.h"
#include "daemon/server.h"
#include "daemon/surroundings.h"
#include "daemon/worker.h"
#include "tests/fuzz/kernel.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/systemd.h"

#define OWN_FDS	   100 /* what is the world's is above, so that the daemon's are where it wants them */
#define FDS_LOOKED 256
#define SEND_BYTES (64 * 1024)

struct process {
	uid_t uid;
	unsigned int lives; /* that came before it */
	int life;	    /* an eventfd in the place of a pidfd: readable when it is dead */
};

static struct {
	struct event_base *base;
	struct server *server;
	struct process processes[WORLD_PROCESSES];
	int connections[WORLD_CONNECTIONS]; /* the peers' ends; -1: none */
	int listener;
	bool has_journals; /* of its own making, which break every promise */
	struct pollfd fds_before[FDS_LOOKED];
} world;

static const uid_t uids[WORLD_PROCESSES] = {0, 1000, 1000, 1001};

/* An own descriptor, out of the daemon's way. */
static int put_away(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS);

	g_assert(high >= 0);
	close(fd);
	return high;
}

void world_pass(unsigned int seconds)
{
	kernel_pass(seconds);
	world_turn();
}

/* Processes and connections */

/* Nobody else's, before or after it. */
static pid_t pid_of(unsigned int process)
{
	return 1 + process + world.processes[process].lives * WORLD_PROCESSES;
}

bool world_lives(pid_t pid)
{
	return pid > 0 && pid_of((pid - 1) % WORLD_PROCESSES) == pid;
}

void world_connect(unsigned int process)
{
	int ends[2];

	process %= WORLD_PROCESSES;
	for (int i = 0; i < WORLD_CONNECTIONS; i++) {
		if (world.connections[i] >= 0)
			continue;
		g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) ==
			 0);
		world.connections[i] = put_away(ends[0]);
		kernel_offer(ends[1], pid_of(process), world.processes[process].uid,
			     world.processes[process].life);
		eventfd_write(world.listener, 1);
		world_turn();
		/* The daemon did not take it, for now: the peer gives up. */
		kernel_take_back();
		return;
	}
}

void world_hang_up(unsigned int connection)
{
	fd_close(&world.connections[connection % WORLD_CONNECTIONS]);
}

void world_kill(unsigned int process)
{
	struct process *dead = &world.processes[process % WORLD_PROCESSES];

	eventfd_write(dead->life, 1);
	dead->lives++;
	world_turn();
	close(dead->life);
	dead->life = put_away(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

size_t world_descriptors(const char *kinds, int *ret_fds, size_t max)
{
	size_t n = 0;

	for (; *kinds && n < max; kinds++) {
		ret_fds[n] = *kinds >= '0' && *kinds < '0' + WORLD_PROCESSES
				     ? fcntl(world.processes[*kinds - '0'].life, F_DUPFD_CLOEXEC, 0)
				     : kernel_descriptor(*kinds);
		g_assert(ret_fds[n] >= 0);
		n++;
	}
	return n;
}

void world_send(unsigned int connection, const char *kinds, const char *text, size_t size)
{
	int socket = world.connections[connection % WORLD_CONNECTIONS], fds[SCM_MAX_FDS];
	struct iovec iov[2] = {{(char *)text, size}, {(char *)"", 1}};
	struct msghdr header = {.msg_iov = iov, .msg_iovlen = 2};
	union scm_buffer control;
	size_t n;

	if (socket < 0 || size > SEND_BYTES)
		return;
	n = world_descriptors(kinds, fds, SCM_MAX_FDS);
	scm_pack(&header, &control, fds, n);
	(void)sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	world_turn();
}

/* Whatever the daemon says is JSON. */
static void check_answers(struct frame_reader *reader)
{
	auto_fdlist fds = FDLIST_INIT;
	size_t size;
	char *text;

	while (frame_reader_take(reader, &text, &size, &fds) > 0) {
		oracle_answer(text, size);
		free(text);
		fdlist_clear(&fds);
	}
}

void world_read(unsigned int connection)
{
	int socket = world.connections[connection % WORLD_CONNECTIONS];
	struct frame_reader reader;

	if (socket < 0)
		return;
	frame_reader_init(&reader, SIZE_MAX / 2, NULL, NULL);
	reader.is_of_writer = true;
	while (frame_reader_receive(&reader, socket) == 1) {
		check_answers(&reader);
		world_turn();
	}
	check_answers(&reader);
	frame_reader_clear(&reader);
}

/* The daemon */

void world_turn(void)
{
	/* Until nothing is left to do; a daemon that always finds something hangs the fuzzer. */
	event_base_loop(world.base, EVLOOP_NONBLOCK);
	oracle_look(world.server);
}

static void start(void)
{
	g_assert(worker_start(world.base) == 0);
	fdstore_init(0);
	world.server = server_new(world.base, methods_dispatch);
	recovery_run(world.server);
	server_listen(world.server, fcntl(world.listener, F_DUPFD_CLOEXEC, OWN_FDS));
	oracle_begin();
}

static void stop(void)
{
	g_assert(server_free(world.server));
	keep_stop();
	g_assert(worker_stop());
	/* The next daemon has the same base. */
	g_assert(event_base_get_num_events(world.base, EVENT_BASE_COUNT_ADDED) == 0);
}

void world_restart(void)
{
	for (unsigned int i = 0; i < WORLD_CONNECTIONS; i++)
		world_hang_up(i);
	world_turn();
	oracle_remember(world.server);
	stop();
	systemd_hand_over();
	start();
	if (!world.has_journals && !systemd_has_broken() && !kernel_has_broken())
		oracle_compare(world.server);
}

/* Which descriptors are open, in one call: those that are not have POLLNVAL. */
static void look_at_fds(struct pollfd *ret_fds)
{
	for (int fd = 0; fd < FDS_LOOKED; fd++)
		ret_fds[fd] = (struct pollfd){.fd = fd};
	poll(ret_fds, FDS_LOOKED, 0);
}

/* What was not closed, for whoever looks into a crash. */
static void tell_open(int fd)
{
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
	g_autofree char *link = g_file_read_link(path, NULL);

	g_printerr("descriptor %d is open: %s\n", fd, link);
}

static void check_fds(void)
{
	struct pollfd fds[FDS_LOOKED];
	bool good = true;

	look_at_fds(fds);
	for (int fd = 3; fd < FDS_LOOKED; fd++) {
		bool was_open = !(world.fds_before[fd].revents & POLLNVAL);
		bool is_open = !(fds[fd].revents & POLLNVAL);

		if (is_open && !was_open)
			tell_open(fd);
		if (was_open && !is_open)
			g_printerr("descriptor %d was closed\n", fd);
		/* A process that has died has left another one. */
		good = good && (is_open == was_open || fd >= OWN_FDS);
	}
	g_assert(good);
}

static GLogWriterOutput say_nothing(GLogLevelFlags level, const GLogField *fields, gsize n,
				    gpointer unused)
{
	(void)level;
	(void)fields;
	(void)n;
	(void)unused;
	return G_LOG_WRITER_HANDLED;
}

/* What the daemon opens once, beyond where it is handed over what another one has left. */
static void open_for_good(void)
{
	for (int fd = dup(STDIN_FILENO); fd < OWN_FDS; fd = dup(STDIN_FILENO))
		g_assert(fd >= 0);
	fdinfo_begin();
	eventfdcheck_begin();
	world.base = event_base_new();
	close_range(STDERR_FILENO + 1, OWN_FDS - 1, 0);
}

void world_init(void)
{
	/* What was inherited would be where the daemon looks for systemd's. */
	close_range(3, ~0U, 0);
	g_log_set_writer_func(say_nothing, NULL, NULL);
	json_object_seed(1);
	kernel_init();
	open_for_good();
	surroundings_look();
	for (int i = 0; i < WORLD_PROCESSES; i++)
		world.processes[i] = (struct process){
			uids[i], 0, put_away(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))};
	for (int i = 0; i < WORLD_CONNECTIONS; i++)
		world.connections[i] = -1;
	world.listener = put_away(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void world_begin(void)
{
	for (int i = 0; i < WORLD_PROCESSES; i++)
		world.processes[i].lives = 0;
	world.has_journals = false;
	look_at_fds(world.fds_before);
	kernel_begin();
	systemd_begin();
	start();
}

void world_journal(const char *name, size_t length, bool has_twin)
{
	world.has_journals = true;
	systemd_journal(name, length, has_twin);
}

/* A last peer is served, whatever the others have done. */
static void check_service(void)
{
	static const char status[] = "{\"method\":\"io.vfiocpr.Session.Status\"}";
	char answer[4096];

	world_break_kernel(0);
	for (unsigned int i = 0; i < WORLD_CONNECTIONS; i++)
		world_hang_up(i);
	world_pass(10);
	world_connect(0);
	world_send(0, "", status, strlen(status));
	g_assert(recv(world.connections[0], answer, sizeof(answer), 0) > 0);
	g_assert(strstr(answer, "\"survivesRestart\""));
	world_hang_up(0);
	world_turn();
}

void world_end(void)
{
	check_service();
	stop();
	systemd_end();
	for (int i = 0; i < WORLD_PROCESSES; i++)
		oracle_account(uids[i]);
	check_fds();
}
