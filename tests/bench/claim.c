/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM's whole session claimed cold by a new process, from connect() to the last descriptor:
 * claim SOCKET ROUNDS FDS [CLIENTS]. The session has the vectors of four devices, 16 memories
 * (fewer if FDS are few), a table of 16 mappings and a state. With CLIENTS as many processes claim
 * one each at once, and one alone for comparison; all times are from the common start. A claim
 * begins with nothing: no connection, no session.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"

static const char *path;
static char floor_name[32];
static size_t n_fds;

/* What the measuring process and those that claim share, and where these find it. */
struct shared {
	uint32_t ready;
	uint64_t start;
	uint64_t end[1024];
};
static struct shared *shared;
static int shared_fd;

#define GATE_FD	  100 /* at its end when they are to begin */
#define SHARED_FD 101 /* numbers that nothing else has */

static void map_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, 0);
	check_errno(shared == MAP_FAILED ? -1 : 0, "mmap");
}

static size_t extras(void)
{
	return n_fds >= 128 ? 18 : 2;
}

static void session_name(size_t i, char name[32])
{
	snprintf(name, 32, "vm%zu", i);
}

/* In a process of its own: makes the session, and dies. */
static void create(size_t i)
{
	pid_t pid = check_errno(fork(), "fork");
	char name[32];

	session_name(i, name);
	if (pid == 0) {
		int *fds = g_new(int, n_fds);
		struct object *objects[PARTS + EXTRAS_MAX];
		struct vfio_cpr *cpr = attach_new(path, name);
		size_t n;

		make_eventfds(fds, n_fds - extras());
		n = make_objects(objects, fds, n_fds - extras(), extras());
		check_cpr(inventory_store(cpr, objects, n), cpr, "store");
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	wait_orphaned(path, name);
}

/*
 * Touches what a claim will: the first use of code, heap and stack costs page faults, which are the
 * process's and not the daemon's. A VMM has been running for some time when it claims.
 */
#define WARM_CHUNKS 24
#define WARM_BYTES  4096 /* all in all less than free() gives back to the kernel */

static void warm_up(void)
{
	void *heap[WARM_CHUNKS];
	auto_call_error error = {0};
	volatile char stack[64 * 1024];
	struct connection *connection;

	for (size_t i = 0; i < WARM_CHUNKS; i++)
		heap[i] = memset(g_malloc(WARM_BYTES), 1, WARM_BYTES);
	for (size_t i = 0; i < WARM_CHUNKS; i++)
		g_free(heap[i]);
	for (size_t i = 0; i < sizeof(stack); i += 4096)
		stack[i] = 1;
	check(connection_open(path, 10000, &connection), "connect");
	check(connection_call(connection, SESSION_METHOD("Status"), NULL, NULL, 0, -1, NULL, NULL,
			      &error),
	      "Status");
	connection_close(connection);
}

static void claim_ours(size_t i)
{
	enum vfio_cpr_start start;
	struct vfio_cpr *cpr;
	char name[32];

	session_name(i, name);
	check(vfio_cpr_open(path, 0, &cpr), "open");
	check_cpr(vfio_cpr_attach(cpr, name, &start), cpr, "attach");
	shared->end[i] = now_ns();
	if (start != VFIO_CPR_START_CLAIMED)
		_exit(1);
}

static void claim_floor(size_t i)
{
	int *fds = g_new(int, n_fds);

	floor_fetch(floor_connect(floor_name), fds, n_fds);
	shared->end[i] = now_ns();
}

/* A claiming process, from its start: says that it is ready, waits for the gate, claims, and stays. */
static int client(char **argv)
{
	size_t i = strtoul(argv[5], NULL, 0);
	char byte;

	path = argv[2];
	snprintf(floor_name, sizeof(floor_name), "%s", argv[3]);
	n_fds = strtoul(argv[4], NULL, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_shared();
	warm_up();
	__atomic_add_fetch(&shared->ready, 1, __ATOMIC_RELEASE);
	if (read(GATE_FD, &byte, 1) != 0)
		return 1;
	if (strcmp(argv[1], "ours") == 0)
		claim_ours(i);
	else
		claim_floor(i);
	/* What an exit costs is not to be in the others' times. */
	pause();
	return 0;
}

/* An image of its own: copying on write what it shares with a parent would be in its time. */
static pid_t start_client(const char *who, size_t i, int gate)
{
	pid_t pid = check_errno(fork(), "fork");
	char fds[24], index[24];

	if (pid > 0)
		return pid;
	snprintf(fds, sizeof(fds), "%zu", n_fds);
	snprintf(index, sizeof(index), "%zu", i);
	check_errno(dup2(gate, GATE_FD), "dup2");
	check_errno(dup2(shared_fd, SHARED_FD), "dup2");
	close_range(3, GATE_FD - 1, 0);
	close_range(SHARED_FD + 1, ~0U, 0);
	execl("/proc/self/exe", "claim", who, path, floor_name, fds, index, NULL);
	_exit(1);
}

static void check_alive(pid_t pid)
{
	if (waitpid(pid, NULL, WNOHANG) != 0)
		check(-EIO, "claim");
}

/* Has n processes claim at once. Returns what the last waited for. */
static uint64_t run(size_t n, const char *who, uint64_t *ret_first)
{
	g_autofree pid_t *pids = g_new(pid_t, n);
	uint64_t worst = 0, first = UINT64_MAX;
	int gate[2];

	check_errno(pipe(gate), "pipe");
	shared->ready = 0;
	for (size_t i = 0; i < n; i++) {
		shared->end[i] = 0;
		pids[i] = start_client(who, i, gate[0]);
	}
	close(gate[0]);
	while (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) < n) {
		check_alive(pids[0]);
		g_usleep(1000);
	}
	g_usleep(5000 + n * 100); /* all wait at the gate */
	shared->start = now_ns();
	close(gate[1]);
	for (size_t i = 0; i < n; i++)
		while (__atomic_load_n(&shared->end[i], __ATOMIC_ACQUIRE) == 0) {
			check_alive(pids[i]);
			g_usleep(1000);
		}
	for (size_t i = 0; i < n; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	for (size_t i = 0; i < n; i++) {
		worst = MAX(worst, shared->end[i] - shared->start);
		first = MIN(first, shared->end[i] - shared->start);
	}
	*ret_first = first;
	return worst;
}

static void wait_all(size_t n)
{
	char name[32];

	for (size_t i = 0; i < n; i++) {
		session_name(i, name);
		wait_orphaned(path, name);
	}
}

static void measure_single(bool is_reported)
{
	uint64_t first, time;

	time = run(1, "floor", &first);
	if (is_reported)
		report("claim", n_fds, "floor", time / 1e3);
	time = run(1, "ours", &first);
	if (is_reported)
		report("claim", n_fds, "ours", time / 1e3);
	wait_all(1);
}

static void measure_clients(size_t n)
{
	uint64_t first, worst;

	worst = run(n, "floor", &first);
	report("clients", n, "floor", worst / 1e3);
	report("clients-first", n, "floor", first / 1e3);
	worst = run(1, "floor", &first);
	report("clients-single", n, "floor", worst / 1e3);
	worst = run(n, "ours", &first);
	report("clients", n, "ours", worst / 1e3);
	report("clients-first", n, "ours", first / 1e3);
	wait_all(n);
	worst = run(1, "ours", &first);
	report("clients-single", n, "ours", worst / 1e3);
	wait_all(1);
}

static void release(size_t n)
{
	char name[32];

	for (size_t i = 0; i < n; i++) {
		enum vfio_cpr_start start;
		struct vfio_cpr *cpr;

		session_name(i, name);
		check(vfio_cpr_open(path, 0, &cpr), "open");
		check_cpr(vfio_cpr_attach(cpr, name, &start), cpr, "attach");
		check_cpr(vfio_cpr_release(cpr), cpr, "release");
		vfio_cpr_close(cpr);
	}
}

int main(int argc, char **argv)
{
	size_t clients = argc > 4 ? strtoul(argv[4], NULL, 0) : 1;
	int rounds = argc > 3 ? atoi(argv[2]) : 0;
	int *fds;
	pid_t floor;

	if (argc == 6) {
		shared_fd = SHARED_FD;
		return client(argv);
	}
	path = argv[1];
	n_fds = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
	raise_nofile();
	setvbuf(stdout, NULL, _IOLBF, 0);
	shared_fd = check_errno(memfd_create("claim", MFD_CLOEXEC), "memfd");
	check_errno(ftruncate(shared_fd, sizeof(*shared)), "ftruncate");
	map_shared();
	for (size_t i = 0; i < clients; i++)
		create(i);
	fds = g_new(int, n_fds);
	make_eventfds(fds, n_fds);
	snprintf(floor_name, sizeof(floor_name), "vfio-cprd-bench-%d", (int)getpid());
	floor = floor_listen(floor_name, fds, n_fds);
	close_all(fds, n_fds);
	for (int round = -1; round < rounds; round++)
		if (clients > 1)
			measure_clients(clients);
		else
			measure_single(round >= 0);
	floor_stop(floor);
	release(clients);
	return 0;
}
