/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the programs of the benchmark share: bench.h. */
#include "tests/bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "common/frame.h"

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void report(const char *row, size_t n, const char *who, double value)
{
	printf("= %s %zu %s %.3f\n", row, n, who, value);
}

void report_usec(const char *row, size_t n, const char *who, uint64_t start_ns, uint64_t end_ns)
{
	report(row, n, who, (end_ns - start_ns) / 1e3);
}

int check(int r, const char *what)
{
	if (r >= 0)
		return r;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

int check_errno(int r, const char *what)
{
	return check(r < 0 ? -errno : r, what);
}

int check_cpr(int r, const struct vfio_cpr *cpr, const char *what)
{
	if (r >= 0)
		return r;
	fprintf(stderr, "%s: %s\n", what, vfio_cpr_strerror(cpr));
	exit(1);
}

void raise_nofile(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void make_eventfds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fds[i] = check_errno(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
}

void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/*
 * Ours
 */

struct vfio_cpr *attach_new(const char *socket, const char *name)
{
	enum vfio_cpr_start start;
	struct vfio_cpr *cpr;

	check(vfio_cpr_open(socket, 0, &cpr), "open");
	check_cpr(vfio_cpr_attach(cpr, name, &start), cpr, "attach");
	if (start != VFIO_CPR_START_NEW)
		check(-EEXIST, name);
	return cpr;
}

/* A table of 16 mappings, as of a VM with as many memory blocks. */
static int make_table(void)
{
	int fd = check(table_create(65536), "table");
	struct table table;

	check(table_open(fd, true, &table), "table");
	for (uint32_t i = 0; i < 16; i++) {
		struct table_slot slot = {
			.iova = (uint64_t)i << 20,
			.size = 4096,
			.object = 10,
			.state = TABLE_MAPPED,
			.prot = 3,
		};

		table_write(&table, i, &slot);
	}
	table_close(&table);
	return fd;
}

static int make_memory(int seals)
{
	int fd = check_errno(memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd");

	check_errno(ftruncate(fd, 4096), "memfd");
	check_errno(fcntl(fd, F_ADD_SEALS, seals), "memfd");
	return fd;
}

static struct object *one_object(enum object_kind kind, const char *name, int fd)
{
	struct object *object = object_new(kind, name);

	object_set_fd(object, 0, fd);
	return object;
}

size_t make_objects(struct object **objects, const int *fds, size_t n, size_t extras)
{
	size_t made = 0;
	char name[32];

	for (size_t part = 0; part < PARTS; part++) {
		size_t from = n * part / PARTS, to = n * (part + 1) / PARTS;

		if (from == to)
			continue;
		snprintf(name, sizeof(name), "0000:%02zx:00.0/msix", part + 1);
		objects[made] = object_new(OBJECT_EVENTFD, name);
		for (size_t i = from; i < to; i++)
			object_set_fd(objects[made], i - from, fds[i]);
		made++;
	}
	for (size_t i = 0; i + 2 < extras; i++) {
		snprintf(name, sizeof(name), "ram%zu", i);
		objects[made++] = one_object(OBJECT_MEMORY, name, make_memory(F_SEAL_SHRINK));
	}
	if (extras >= 2) {
		objects[made++] = one_object(OBJECT_TABLE, "dma", make_table());
		objects[made++] = one_object(
			OBJECT_STATE, "vm",
			make_memory(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
	}
	return made;
}

void forget_fds(struct vfio_cpr *cpr)
{
	for (guint i = 0; i < cpr->objects->len; i++) {
		struct object *object = cpr->objects->pdata[i];

		for (uint32_t j = 0; j < object->n_fds; j++)
			object->fds[j] = -1;
	}
}

/* Whether the daemon shows the session as one that could be claimed at once. */
static bool is_orphaned(struct connection *connection, const char *name)
{
	auto_call_error error = {0};
	json_t *answer = NULL, *session;
	bool orphaned;

	check(connection_call(connection, SESSION_METHOD("Show"), json_pack("{s:s}", "name", name),
			      NULL, 0, -1, &answer, NULL, &error),
	      "Show");
	session = json_object_get(answer, "session");
	orphaned = strcmp(json_string_value(json_object_get(session, "state")), "orphaned") == 0;
	json_decref(answer);
	return orphaned;
}

void wait_orphaned(const char *socket, const char *name)
{
	struct connection *connection;

	check(connection_open(socket, 10000, &connection), "connect");
	while (!is_orphaned(connection, name))
		g_usleep(500);
	connection_close(connection);
}

/*
 * The floor
 */

enum { FETCH = 1, STORE, DROP };

struct request {
	uint32_t what;
	uint32_t cursor;
};

static void send_fds(int socket, const void *bytes, size_t size, const int *fds, size_t n)
{
	union {
		char bytes[CMSG_SPACE(FRAME_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)bytes, size};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(n * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
	}
	check_errno(sendmsg(socket, &header, MSG_NOSIGNAL), "floor: sendmsg");
}

/* Returns the bytes; 0: the other side is gone. */
static size_t receive_fds(int socket, void *bytes, size_t size, int *fds, size_t *ret_n)
{
	union {
		char bytes[CMSG_SPACE(FRAME_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {bytes, size};
	struct msghdr header = {.msg_iov = &iov,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);

	*ret_n = 0;
	if (n <= 0)
		return 0;
	if (header.msg_flags & MSG_CTRUNC)
		check(-EMFILE, "floor: recvmsg");
	if (header.msg_controllen > 0) {
		*ret_n = (control.align.cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(&control.align), *ret_n * sizeof(int));
	}
	return n;
}

struct holder {
	const int *fds; /* to hand out */
	size_t n;
	int *kept; /* that it was given */
	size_t n_kept;
};

/* Answers one request. false: the other side is gone. */
static bool serve(struct holder *holder, int socket)
{
	struct request request = {0};
	size_t n;

	if (receive_fds(socket, &request, sizeof(request), holder->kept + holder->n_kept, &n) == 0)
		return false;
	if (request.what == FETCH) {
		n = MIN(holder->n - request.cursor, FRAME_MAX_FDS);
		send_fds(socket, &request, sizeof(request), holder->fds + request.cursor, n);
		return true;
	}
	holder->n_kept += n;
	if (request.what == DROP) {
		close_all(holder->kept, holder->n_kept);
		holder->n_kept = 0;
	}
	send_fds(socket, &request, sizeof(request), NULL, 0);
	return true;
}

static struct holder holder_new(const int *fds, size_t n)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return (struct holder){fds, n, g_new(int, n + FRAME_MAX_FDS), 0};
}

pid_t floor_start(const int *fds, size_t n, int *ret_socket)
{
	int ends[2];
	pid_t pid;

	check_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
	pid = check_errno(fork(), "fork");
	if (pid == 0) {
		struct holder holder = holder_new(fds, n);

		close(ends[0]);
		while (serve(&holder, ends[1]))
			;
		_exit(0);
	}
	close(ends[1]);
	*ret_socket = ends[0];
	return pid;
}

static socklen_t floor_address(const char *name, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "%s", name);
	return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

static void serve_all(struct holder *holder, int listener)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
	int epoll = check_errno(epoll_create1(EPOLL_CLOEXEC), "epoll");

	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	while (epoll_wait(epoll, &event, 1, -1) == 1) {
		int fd = event.data.fd;

		if (fd == listener) {
			fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
			epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
		} else if (!serve(holder, fd)) {
			close(fd);
		}
	}
}

pid_t floor_listen(const char *name, const int *fds, size_t n)
{
	int listener = check_errno(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	struct sockaddr_un address;
	socklen_t length = floor_address(name, &address);
	pid_t pid;

	check_errno(bind(listener, (struct sockaddr *)&address, length), "bind");
	check_errno(listen(listener, 4096), "listen");
	pid = check_errno(fork(), "fork");
	if (pid == 0) {
		struct holder holder = holder_new(fds, n);

		serve_all(&holder, listener);
		_exit(1);
	}
	close(listener);
	return pid;
}

int floor_connect(const char *name)
{
	int fd = check_errno(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	struct sockaddr_un address;
	socklen_t length = floor_address(name, &address);

	check_errno(connect(fd, (struct sockaddr *)&address, length), "connect");
	return fd;
}

static size_t floor_call(int socket, uint32_t what, uint32_t cursor, const int *fds, size_t n,
			 int *ret_fds)
{
	struct request request = {what, cursor};
	int none[FRAME_MAX_FDS] = {0};
	size_t got;

	send_fds(socket, &request, sizeof(request), fds, n);
	if (receive_fds(socket, &request, sizeof(request), ret_fds ? ret_fds : none, &got) == 0)
		check(-EPIPE, "floor");
	return got;
}

void floor_fetch(int socket, int *fds, size_t n)
{
	for (size_t at = 0; at < n;)
		at += floor_call(socket, FETCH, at, NULL, 0, fds + at);
}

void floor_store(int socket, const int *fds, size_t n)
{
	for (size_t at = 0; at < n; at += FRAME_MAX_FDS)
		floor_call(socket, STORE, 0, fds + at, MIN(n - at, FRAME_MAX_FDS), NULL);
}

void floor_drop(int socket)
{
	floor_call(socket, DROP, 0, NULL, 0, NULL);
}

void floor_stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
