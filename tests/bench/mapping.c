/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What recording a DMA mapping costs: mapping ROUNDS COUNT. The kernel's part is left out: this
 * program's own ioctl() takes its place and does nothing. First times touch new pages of the table
 * and grow the index; "again" maps what was mapped and unmapped before. The clock is this thread's
 * processor time, read once for BLOCK mappings, so that other work on the machine does not count.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "client/dma.h"
#include "tests/bench/bench.h"

#define RAM   (16 << 20)
#define BLOCK 256

/* In place of libc's, for the whole program. An unmap tells that all of it was there. */
int ioctl(int fd, unsigned long request, ...)
{
	(void)fd;
	(void)request;
	return 0;
}

static struct vfio_cpr_space *make_space(struct vfio_cpr *cpr)
{
	struct object *objects[3];
	struct vfio_cpr_space *space;
	int fd = check_errno(memfd_create("container", MFD_CLOEXEC), "memfd");

	objects[0] = object_new(OBJECT_CONTAINER, "dma");
	object_set_fd(objects[0], 0, fd);
	objects[1] = object_new(OBJECT_GROUP, "1");
	objects[1]->attributes.space = g_strdup("dma");
	object_set_fd(objects[1], 0, dup(fd));
	objects[2] = object_new(OBJECT_TABLE, "dma");
	object_set_fd(objects[2], 0, check(table_create(65536 * 4), "table"));
	check_cpr(inventory_store(cpr, objects, 3), cpr, "store");
	check_cpr(space_open(cpr, objects[2], &space), cpr, "space");
	return space;
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The ioctl alone, filled in and called as the library does it. */
static void map_bare(struct vfio_cpr_space *space, struct vfio_cpr_memory *memory, size_t i)
{
	struct table_slot slot = {.iova = i << 12, .size = 4096, .prot = 3};

	check(dma_ioctl_map(space, &slot, (char *)memory->addr + (i << 12) % RAM), "map");
}

static void map_ours(struct vfio_cpr_space *space, struct vfio_cpr_memory *memory, size_t i)
{
	check(vfio_cpr_dma_map(space, i << 12, memory, (i << 12) % RAM, 4096, 3), "map");
}

static void unmap_ours(struct vfio_cpr_space *space, struct vfio_cpr_memory *memory, size_t i)
{
	(void)memory;
	check(vfio_cpr_dma_unmap(space, i << 12, 4096), "unmap");
}

static void measure(const char *row, const char *who,
		    void (*one)(struct vfio_cpr_space *, struct vfio_cpr_memory *, size_t),
		    struct vfio_cpr_space *space, struct vfio_cpr_memory *memory, size_t n)
{
	uint64_t begun = cpu_ns();

	for (size_t i = 0; i < n; i += BLOCK) {
		uint64_t start = cpu_ns();

		for (size_t j = i; j < i + BLOCK; j++)
			one(space, memory, j);
		report(row, n, who, (double)(cpu_ns() - start) / BLOCK);
	}
	/* With what only some blocks pay: the index's growth. */
	report(row, 0, who, (double)(cpu_ns() - begun) / n);
}

/* What restoring does in the library, as in a session that was just claimed. */
static void measure_restore(struct vfio_cpr *cpr, struct vfio_cpr_space *space, size_t n)
{
	uint64_t start;

	space->n_pending = table_used(&space->table);
	space->pending = g_malloc(space->n_pending);
	memset(space->pending, 1, space->n_pending);
	start = cpu_ns();
	check_cpr(vfio_cpr_dma_restore(space), cpr, "restore");
	report("restore-own", n, "ours", (double)(cpu_ns() - start) / n);
}

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[1]) : 0;
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;

	for (int round = 0; round < rounds; round++) {
		struct vfio_cpr_memory *memory;
		struct vfio_cpr_space *space;
		enum vfio_cpr_start start;
		struct vfio_cpr *cpr;

		check(vfio_cpr_open("/nonexistent", VFIO_CPR_OPEN_UNPROTECTED, &cpr), "open");
		check_cpr(vfio_cpr_attach(cpr, "vm", &start), cpr, "attach");
		space = make_space(cpr);
		check_cpr(vfio_cpr_memory_get(cpr, "ram", RAM, 0, &memory), cpr, "memory");
		check_cpr(vfio_cpr_memory_map(memory, NULL), cpr, "memory");
		measure("record", "floor", map_bare, space, memory, n);
		measure("record", "ours", map_ours, space, memory, n);
		measure("record-unmap", "ours", unmap_ours, space, memory, n);
		measure("record-again", "floor", map_bare, space, memory, n);
		measure("record-again", "ours", map_ours, space, memory, n);
		measure_restore(cpr, space, n);
		vfio_cpr_close(cpr);
	}
	return 0;
}
