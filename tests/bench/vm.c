/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mappings on a real kernel, in the test VM: vm SOCKET BACKEND BDF COUNT ROUNDS. A first process
 * maps some pieces of 2 MiB, then COUNT pages, by the bare ioctl alone before, and dies; each of ROUNDS
 * successors claims and restores. Then, still in it, everything is invalidated and restored again
 * by the library and by the bare ioctls in turn. What the daemon needed for the orphan is in its log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/dma.h"
#include "common/uapi.h"
#include "tests/bench/bench.h"

#define RAM    (16 << 20)
#define BLOCK  1024
#define REPEAT 3

#define LARGE	     (2 << 20)
#define LARGE_IOVA   (UINT64_C(1) << 30)
#define LARGE_ROUNDS 100

static const char *path, *bdf;
static enum vfio_cpr_backend backend;
static size_t count;

struct vm {
	struct vfio_cpr *cpr;
	struct vfio_cpr_space *space;
	struct vfio_cpr_memory *memory;
	enum vfio_cpr_start start;
};

static struct table_slot slot_of(const struct vm *vm, size_t i)
{
	return (struct table_slot){
		.iova = (uint64_t)i << 12,
		.size = 4096,
		.offset = ((uint64_t)i << 12) % RAM,
		.object = vm->memory->object->id,
		.prot = 3,
	};
}

static void begin(struct vm *vm)
{
	struct vfio_cpr_device *device;
	uint64_t start = now_ns();

	check(vfio_cpr_open(path, 0, &vm->cpr), "open");
	check_cpr(vfio_cpr_attach(vm->cpr, "vm", &vm->start), vm->cpr, "attach");
	if (vm->start == VFIO_CPR_START_CLAIMED)
		report_usec("vm-claim", count, "ours", start, now_ns());
	check_cpr(vfio_cpr_space_get(vm->cpr, "dma", backend, &vm->space), vm->cpr, "space");
	check_cpr(vfio_cpr_device_get(vm->space, bdf, &device), vm->cpr, "device");
	check_cpr(vfio_cpr_memory_get(vm->cpr, "ram", RAM, 0, &vm->memory), vm->cpr, "memory");
	check_cpr(vfio_cpr_memory_map(vm->memory, NULL), vm->cpr, "memory");
	memset(vm->memory->addr, 1, RAM);
}

static void map_bare(const struct vm *vm, const struct table_slot *slot)
{
	check(backend == VFIO_CPR_BACKEND_IOMMUFD
		      ? dma_ioctl_map_file(vm->space, slot, object_fd(vm->memory->object, 0))
		      : dma_ioctl_map(vm->space, slot, (char *)vm->memory->addr + slot->offset),
	      "map");
}

static void map_ours(const struct vm *vm, const struct table_slot *slot)
{
	check_cpr(vfio_cpr_dma_map(vm->space, slot->iova, vm->memory, slot->offset, slot->size,
				   slot->prot),
		  vm->cpr, "map");
}

/* A block of mappings by the bare ioctl, taken away again, then by the library. */
static void map_block(struct vm *vm, size_t from, size_t to)
{
	uint64_t start = now_ns(), end, unmapped;

	for (size_t i = from; i < to; i++) {
		struct table_slot slot = slot_of(vm, i);

		map_bare(vm, &slot);
	}
	end = now_ns();
	report("vm-map", count, "floor", (end - start) / 1e3 / (to - from));
	for (size_t i = from; i < to; i++)
		check(dma_ioctl_unmap(vm->space, (uint64_t)i << 12, 4096, &unmapped), "unmap");
	start = now_ns();
	for (size_t i = from; i < to; i++) {
		struct table_slot slot = slot_of(vm, i);

		map_ours(vm, &slot);
	}
	end = now_ns();
	report("vm-map", count, "ours", (end - start) / 1e3 / (to - from));
}

/* Mappings of the size that guest memory has, by both in turn, and taken away. */
static void map_large(struct vm *vm)
{
	struct table_slot slot = slot_of(vm, 0);

	slot.iova = LARGE_IOVA;
	slot.size = LARGE;
	for (int i = 0; i < LARGE_ROUNDS; i++) {
		uint64_t start = now_ns(), unmapped;

		map_bare(vm, &slot);
		report_usec("vm-map-large", LARGE, "floor", start, now_ns());
		check(dma_ioctl_unmap(vm->space, slot.iova, slot.size, &unmapped), "unmap");
		start = now_ns();
		map_ours(vm, &slot);
		report_usec("vm-map-large", LARGE, "ours", start, now_ns());
		check_cpr(vfio_cpr_dma_unmap(vm->space, slot.iova, slot.size), vm->cpr, "unmap");
	}
}

/* What the daemon does for an orphan, and nothing else. */
static void invalidate(struct vm *vm)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL,
	};
	uint64_t start = now_ns();

	check_errno(ioctl(vfio_cpr_space_fd(vm->space), VFIO_IOMMU_UNMAP_DMA, &unmap),
		    "invalidate");
	report_usec("vm-orphan", count, "floor", start, now_ns());
}

/* As if the session had just been claimed. */
static void make_pending(struct vm *vm)
{
	struct vfio_cpr_space *space = vm->space;

	g_free(space->pending);
	space->n_pending = table_used(&space->table);
	space->pending = g_malloc(space->n_pending);
	memset(space->pending, 1, space->n_pending);
	vm->cpr->process_changed = false;
}

static void restore_bare(struct vm *vm)
{
	uint64_t start = now_ns();

	if (backend == VFIO_CPR_BACKEND_IOMMUFD)
		check(dma_ioctl_change_process(vm->space), "change process");
	else
		for (size_t i = 0; i < count; i++) {
			struct table_slot slot = slot_of(vm, i);

			check(dma_ioctl_set_vaddr(vm->space, &slot,
						  (char *)vm->memory->addr + slot.offset),
			      "restore");
		}
	report_usec("vm-restore", count, "floor", start, now_ns());
}

static void restore_ours(struct vm *vm)
{
	uint64_t start = now_ns();

	check_cpr(vfio_cpr_dma_restore(vm->space), vm->cpr, "restore");
	report_usec("vm-restore", count, "ours", start, now_ns());
}

/* What a claim has read before it restores: shared memory is not in a child's page tables. */
static void touch_table(struct vm *vm)
{
	struct table_slot slot;

	for (uint32_t i = 0; i < table_used(&vm->space->table); i++)
		check(table_read(&vm->space->table, i, &slot), "table");
	memset(vm->space->pending, 1, vm->space->n_pending);
}

/* Both in turn. With iommufd each needs a process of its own to change to. */
static void restore_again(struct vm *vm)
{
	void (*const ways[])(struct vm *) = {restore_bare, restore_ours};

	for (int way = 0; way < 2; way++) {
		pid_t pid;

		make_pending(vm);
		if (backend != VFIO_CPR_BACKEND_IOMMUFD) {
			invalidate(vm);
			ways[way](vm);
			continue;
		}
		fflush(stdout);
		pid = check_errno(fork(), "fork");
		if (pid == 0) {
			*vm->cpr->own_process = 1; /* fork() wiped it, to forbid just this */
			touch_table(vm);
			ways[way](vm);
			fflush(stdout);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

static void live(void)
{
	struct vm vm = {0};

	begin(&vm);
	if (vm.start == VFIO_CPR_START_NEW) {
		map_large(&vm);
		for (size_t i = 0; i < count; i += BLOCK)
			map_block(&vm, i, MIN(count, i + BLOCK));
		check_cpr(vfio_cpr_commit(vm.cpr), vm.cpr, "commit");
	} else {
		uint64_t start = now_ns();

		check_cpr(vfio_cpr_commit(vm.cpr), vm.cpr, "commit");
		report_usec("vm-commit", count, "ours", start, now_ns());
		for (int i = 0; i < REPEAT; i++)
			restore_again(&vm);
		if (backend == VFIO_CPR_BACKEND_IOMMUFD) {
			/* A child had the last change: it is this process's again. */
			check(dma_ioctl_change_process(vm.space), "change process");
		}
	}
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	int rounds = argc > 5 ? atoi(argv[5]) : 0;
	enum vfio_cpr_start start;
	struct vfio_cpr *cpr;

	path = argv[1];
	backend = argc > 2 && strcmp(argv[2], "iommufd") == 0 ? VFIO_CPR_BACKEND_IOMMUFD
							      : VFIO_CPR_BACKEND_TYPE1;
	bdf = argv[3];
	count = argc > 4 ? strtoul(argv[4], NULL, 0) : 0;
	for (int round = 0; round <= rounds; round++) {
		int status = 0;
		pid_t pid = check_errno(fork(), "fork");

		if (pid == 0)
			live();
		waitpid(pid, &status, 0);
		if (status != 0)
			check(-EIO, "a process");
		wait_orphaned(path, "vm");
	}
	check(vfio_cpr_open(path, 0, &cpr), "open");
	check_cpr(vfio_cpr_attach(cpr, "vm", &start), cpr, "attach");
	check_cpr(vfio_cpr_release(cpr), cpr, "release");
	vfio_cpr_close(cpr);
	return 0;
}
