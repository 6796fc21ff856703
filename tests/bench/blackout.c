/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long a device is without its driver when that is killed with SIGKILL, by phase, in the test
 * VM: blackout SOCKET BACKEND BDF ROUNDS. The successor is a process that stands ready and begins
 * when the dead one is gone, as a supervisor's would; what it needs to be started is not the daemon's. 530
 * descriptors, 16 mappings, one edu device. When the daemon's orphan work ended is told by its
 * event; when it began, by how long its log says that it took.
 */
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define BLOCKS	    16
#define BLOCK_SIZE  (1 << 20)
#define VECTORS	    511
#define EDU_BUFFER  0x40000
#define DMA_RUN	    1
#define DMA_COMMAND 0x98

static const char *path, *bdf;
static enum vfio_cpr_backend backend;

struct shared {
	uint64_t killed, claimed, restored, dma;
	int ready, is_new;
};
static volatile struct shared *shared;

/* One DMA of the device out of memory, and its end. */
static void device_dma(struct vfio_cpr_device *device)
{
	struct vfio_region_info bar = {.argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX};
	struct vfio_region_info config = {.argsz = sizeof(config),
					  .index = VFIO_PCI_CONFIG_REGION_INDEX};
	uint16_t command = PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY;
	int fd = vfio_cpr_device_fd(device);
	volatile uint8_t *registers;
	uint64_t source = 0x1000, target = EDU_BUFFER, size = 64, run = DMA_RUN;

	check_errno(ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &bar), "BAR 0");
	if (shared->is_new) {
		check_errno(ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &config), "config");
		check_errno(pwrite(fd, &command, 2, config.offset + PCI_COMMAND), "config");
	}
	registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, bar.offset);
	*(volatile uint64_t *)(registers + 0x80) = source;
	*(volatile uint64_t *)(registers + 0x88) = target;
	*(volatile uint64_t *)(registers + 0x90) = size;
	*(volatile uint64_t *)(registers + DMA_COMMAND) = run;
	/* edu waits 100 ms before it copies: what counts is that the device has begun. */
	if (!(*(volatile uint64_t *)(registers + DMA_COMMAND) & DMA_RUN))
		check(-EIO, "the device does not begin");
}

static void drive(void)
{
	struct vfio_cpr_device *device;
	struct vfio_cpr_space *space;
	enum vfio_cpr_start start;
	int vectors[VECTORS];
	struct vfio_cpr *cpr;

	check(vfio_cpr_open(path, 0, &cpr), "open");
	check_cpr(vfio_cpr_attach(cpr, "vm", &start), cpr, "attach");
	shared->claimed = now_ns();
	shared->is_new = start == VFIO_CPR_START_NEW;
	check_cpr(vfio_cpr_space_get(cpr, "dma", backend, &space), cpr, "space");
	check_cpr(vfio_cpr_device_get(space, bdf, &device), cpr, "device");
	for (int i = 0; i < BLOCKS; i++) {
		struct vfio_cpr_memory *memory;
		char name[16];

		snprintf(name, sizeof(name), "ram%d", i);
		check_cpr(vfio_cpr_memory_get(cpr, name, BLOCK_SIZE, 0, &memory), cpr, "memory");
		check_cpr(
			vfio_cpr_dma_map(space, (uint64_t)i * BLOCK_SIZE, memory, 0, BLOCK_SIZE, 3),
			cpr, "map");
	}
	check_cpr(vfio_cpr_eventfds_get(cpr, "vectors", 0, VECTORS, vectors, NULL), cpr,
		  "eventfds");
	check_cpr(vfio_cpr_commit(cpr), cpr, "commit");
	shared->restored = now_ns();
	device_dma(device);
	shared->dma = now_ns();
	shared->ready = 1;
	pause();
}

static pid_t start_driver(int gate)
{
	pid_t pid = check_errno(fork(), "fork");
	char byte;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (gate >= 0 && read(gate, &byte, 1) != 1)
			_exit(1);
		drive();
	}
	return pid;
}

static void wait_ready(pid_t pid)
{
	while (!shared->ready) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			check(-EIO, "the driver");
		g_usleep(1000);
	}
	shared->ready = 0;
}

/* When the monitor is told that the session is an orphan. */
static uint64_t wait_event(struct connection *monitor, const char *wanted)
{
	for (;;) {
		auto_call_error error = {0};
		json_t *answer = NULL, *event;
		bool found = false;
		uint64_t now;
		size_t i;

		check(connection_next(monitor, -1, &answer, NULL, NULL, &error), "monitor");
		now = now_ns();
		json_array_foreach(json_object_get(answer, "events"), i, event)
		{
			const char *what = json_string_value(json_object_get(event, "event"));

			found |= strcmp(what, wanted) == 0;
		}
		json_decref(answer);
		if (found)
			return now;
	}
}

int main(int argc, char **argv)
{
	int rounds = argc > 4 ? atoi(argv[4]) : 0, gate[2];
	struct connection *monitor;
	struct vfio_cpr *cpr;
	enum vfio_cpr_start start;
	pid_t pid, next;

	path = argv[1];
	backend = argc > 2 && strcmp(argv[2], "iommufd") == 0 ? VFIO_CPR_BACKEND_IOMMUFD
							      : VFIO_CPR_BACKEND_TYPE1;
	bdf = argv[3];
	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	check_errno(pipe(gate), "pipe");
	pid = start_driver(-1);
	wait_ready(pid);
	check(connection_open(path, 10000, &monitor), "connect");
	check(connection_call_more(monitor, SESSION_METHOD("Monitor"), NULL), "monitor");
	wait_event(monitor, "present");
	for (int round = 0; round < rounds; round++) {
		uint64_t dead, orphaned;

		next = start_driver(gate[0]);
		g_usleep(300 * 1000); /* it waits; the device's DMA of the last round is over */
		shared->killed = now_ns();
		kill(pid, SIGKILL);
		/* As a supervisor would: not before the process is gone, else it is Busy. */
		waitpid(pid, NULL, 0);
		dead = now_ns();
		check_errno(write(gate[1], "", 1), "write");
		orphaned = wait_event(monitor, "orphaned");
		wait_ready(next);
		report_usec("blackout-dead", 530, "ours", shared->killed, dead);
		report_usec("blackout-orphaned", 530, "ours", shared->killed, orphaned);
		report_usec("blackout-claimed", 530, "ours", shared->killed, shared->claimed);
		report_usec("blackout-restored", 530, "ours", shared->killed, shared->restored);
		report_usec("blackout-dma", 530, "ours", shared->killed, shared->dma);
		pid = next;
	}
	connection_close(monitor);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	check(vfio_cpr_open(path, 0, &cpr), "open");
	check_cpr(vfio_cpr_attach(cpr, "vm", &start), cpr, "attach");
	check_cpr(vfio_cpr_release(cpr), cpr, "release");
	vfio_cpr_close(cpr);
	return 0;
}
