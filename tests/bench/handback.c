/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Store and hand back: handback SOCKET ROUNDS N [S6-SOCKET]. Ours is what a VMM waits for in the
 * library (the descriptors in its inventory), beside the floor and, if built with it, s6-fdholder
 * through its own library, one connection for all.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/bench.h"

#ifdef HAVE_S6
#include <s6/fdholder.h>
#include <skalibs/genalloc.h>
#include <skalibs/tai.h>

#define S6_ROUNDS 5

static s6_fdholder_t s6 = S6_FDHOLDER_ZERO;

static bool s6_begin(const char *path)
{
	tain_now_set_stopwatch_g();
	tain_now_g();
	return s6_fdholder_start_g(&s6, path, &tain_infinite);
}

/* false: it takes or gives no more; then nothing is reported. */
static bool s6_by_id(const int *fds, int *back, size_t n)
{
	uint64_t start, stored, end;
	size_t i, got;
	char id[32];

	start = now_ns();
	for (i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "vector%zu", i);
		if (!s6_fdholder_store_g(&s6, fds[i], id, &tain_infinite, &tain_infinite))
			break;
	}
	stored = now_ns();
	for (got = 0; got < i; got++) {
		snprintf(id, sizeof(id), "vector%zu", got);
		back[got] = s6_fdholder_retrieve_g(&s6, id, &tain_infinite);
		if (back[got] < 0)
			break;
	}
	end = now_ns();
	close_all(back, got);
	if (i == n && got == n) {
		report_usec("store", n, "s6", start, stored);
		report_usec("fetch", n, "s6", stored, end);
	} else {
		fprintf(stderr, "s6-fdholder: stored %zu of %zu, gave back %zu\n", i, n, got);
	}
	return i == n && got == n;
}

static void s6_delete(size_t n)
{
	char id[32];

	for (size_t i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "vector%zu", i);
		s6_fdholder_delete_g(&s6, id, &tain_infinite);
	}
}

static void s6_dump(size_t n)
{
	genalloc dump = GENALLOC_ZERO;
	uint64_t start = now_ns(), end;
	size_t got = 0;
	bool ok = s6_fdholder_getdump_g(&s6, &dump, &tain_infinite);

	end = now_ns();
	if (ok) {
		got = genalloc_len(s6_fdholder_fd_t, &dump);
		for (size_t i = 0; i < got; i++)
			close(genalloc_s(s6_fdholder_fd_t, &dump)[i].fd);
	}
	if (got == n)
		report_usec("fetch", n, "s6-dump", start, end);
	else
		fprintf(stderr, "s6-fdholder: its dump of %zu descriptors gave %zu\n", n, got);
	genalloc_free(s6_fdholder_fd_t, &dump);
}

static void measure_s6(const char *path, const int *fds, int *back, size_t n)
{
	bool goes_on = true;

	if (!s6_begin(path)) {
		fprintf(stderr, "s6-fdholder does not answer\n");
		return;
	}
	for (int round = 0; round < S6_ROUNDS && goes_on; round++) {
		goes_on = s6_by_id(fds, back, n);
		if (!goes_on || round < S6_ROUNDS - 1)
			s6_delete(n);
	}
	if (goes_on) {
		s6_dump(n); /* where it fails, the connection is lost with it */
		s6_fdholder_end(&s6);
		if (s6_begin(path))
			s6_delete(n);
	}
	s6_fdholder_end(&s6);
}
#endif

/* The whole of a session, into a new handle of the process that holds it. */
static void fetch_ours(const char *socket, size_t n, bool is_reported)
{
	struct vfio_cpr *cpr;
	uint64_t start, end;
	size_t got = 0;

	check(vfio_cpr_open(socket, 0, &cpr), "open");
	check_cpr(link_call(cpr, SESSION_METHOD("Attach"), json_pack("{s:s}", "name", "held"), NULL,
			    NULL, NULL),
		  cpr, "attach");
	start = now_ns();
	check_cpr(inventory_fetch(cpr, true), cpr, "fetch");
	end = now_ns();
	for (guint i = 0; i < cpr->entries->len; i++)
		got += ((struct entry *)cpr->entries->pdata[i])->n_fds;
	if (got != n)
		check(-EIO, "fetch");
	if (is_reported)
		report_usec("fetch", n, "ours", start, end);
	vfio_cpr_close(cpr);
}

static struct vfio_cpr *store_ours(const char *socket, const char *name, const int *fds, size_t n,
				   bool is_reported)
{
	struct vfio_cpr *cpr = attach_new(socket, name);
	struct entry *entries[PARTS];
	size_t n_entries = make_entries(entries, fds, n, 0);
	uint64_t start = now_ns();

	check_cpr(inventory_store(cpr, entries, n_entries), cpr, "store");
	if (is_reported)
		report_usec("store", n, "ours", start, now_ns());
	return cpr;
}

static void measure_floor(int floor, const int *fds, int *back, size_t n, bool is_reported)
{
	uint64_t start = now_ns(), end;

	floor_fetch(floor, back, n);
	end = now_ns();
	if (is_reported)
		report_usec("fetch", n, "floor", start, end);
	close_all(back, n);
	start = now_ns();
	floor_store(floor, fds, n);
	end = now_ns();
	if (is_reported)
		report_usec("store", n, "floor", start, end);
	floor_drop(floor);
}

int main(int argc, char **argv)
{
	int rounds = argc > 3 ? atoi(argv[2]) : 0, floor;
	size_t n = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
	int *fds = g_new(int, n), *back = g_new(int, n);
	struct vfio_cpr *cpr;
	pid_t floor_pid;

	raise_nofile();
	make_eventfds(fds, n);
	floor_pid = floor_start(fds, n, &floor);
	cpr = store_ours(argv[1], "held", fds, n, false);
	forget_fds(cpr);
	vfio_cpr_close(cpr);
	for (int round = -2; round < rounds; round++) {
		measure_floor(floor, fds, back, n, round >= 0);
		fetch_ours(argv[1], n, round >= 0);
		cpr = store_ours(argv[1], "stored", fds, n, round >= 0);
		forget_fds(cpr);
		check_cpr(vfio_cpr_release(cpr), cpr, "release");
		vfio_cpr_close(cpr);
	}
	floor_stop(floor_pid);
#ifdef HAVE_S6
	if (argc > 4)
		measure_s6(argv[4], fds, back, n);
#endif
	check(vfio_cpr_open(argv[1], 0, &cpr), "open");
	link_call(cpr, SESSION_METHOD("Attach"), json_pack("{s:s}", "name", "held"), NULL, NULL,
		  NULL);
	link_call(cpr, SESSION_METHOD("Release"), NULL, NULL, NULL, NULL);
	vfio_cpr_close(cpr);
	return 0;
}
