/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Store and hand back: handback SOCKET ROUNDS N. Ours is what a VMM waits for in the library (the
 * descriptors in its inventory), beside the floor.
 */
#include <stdlib.h>

#include "tests/bench/bench.h"

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
	for (guint i = 0; i < cpr->objects->len; i++)
		got += ((struct object *)cpr->objects->pdata[i])->n_fds;
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
	struct object *objects[PARTS];
	size_t n_objects = make_objects(objects, fds, n, 0);
	uint64_t start = now_ns();

	check_cpr(inventory_store(cpr, objects, n_objects), cpr, "store");
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
	check(vfio_cpr_open(argv[1], 0, &cpr), "open");
	link_call(cpr, SESSION_METHOD("Attach"), json_pack("{s:s}", "name", "held"), NULL, NULL,
		  NULL);
	link_call(cpr, SESSION_METHOD("Release"), NULL, NULL, NULL, NULL);
	vfio_cpr_close(cpr);
	return 0;
}
