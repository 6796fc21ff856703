/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A whole driver on libvfio-cpr, for QEMU's educational PCI device "edu" (1234:11e8): the device
 * copies memory by DMA and interrupts. The driver may be killed at any moment; started again under
 * the same session name it goes on: the DMA in flight has landed, its interrupt is waiting, and the
 * device was not reset. There is one path for both starts. What to do after it is decided by what
 * the memory says, which survives, and never by variables, which do not.
 *
 * Prints a word and key=value for each step. Exit status: 0 if data, interrupts and the device's
 * state are right, 1 if not, 2 if it could not be tried.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/vfio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vfio-cpr.h>

/* Registers in BAR 0, bits of DMA_COMMAND, the device's buffer: docs/specs/edu.rst of QEMU. */
enum { IRQ_STATUS = 0x24, IRQ_ACK = 0x64 };
enum { DMA_SOURCE = 0x80, DMA_TARGET = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98 };
enum { RUN = 1, TO_RAM = 2, INTERRUPT = 4 };
#define DEVICE_BUFFER 0x40000
#define BLOCK	      2048 /* bytes; the buffer has 4096, but older QEMUs die when all are used */

/* Our memory, which the device sees from address 0 on: progress, then two blocks. */
#define RAM_SIZE (16 << 20)
#define SOURCE	 0x10000
#define TARGET	 0x20000

#define PCI_COMMAND	   0x04
#define PCI_COMMAND_MASTER 0x4
#define TIMEOUT_MSEC	   10000
#define MAGIC		   0x75646531

/* At the start of the memory. The fields below magic hold numbers of rounds. */
struct progress {
	uint32_t magic;	    /* written last: the device is set up */
	uint32_t started;   /* its DMA to RAM is about to be started */
	uint32_t arrived;   /* its interrupt has come */
	uint32_t completed; /* its data is checked */
	uint32_t missed;    /* how many got no interrupt */
};

static struct vfio_cpr *cpr;
static int device_fd, interrupt_fd;
static volatile uint8_t *bar;
static uint64_t config; /* where the configuration space is in device_fd */
static uint8_t *ram;
static volatile struct progress *progress;

static void check(int result, const char *what) /* of a call of the library */
{
	if (result >= 0)
		return;
	fprintf(stderr, "edu: %s: %s\n", what, cpr ? vfio_cpr_strerror(cpr) : strerror(-result));
	exit(2);
}

static void check_errno(ssize_t result, const char *what) /* of a system call */
{
	if (result >= 0)
		return;
	fprintf(stderr, "edu: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint32_t get(uint32_t reg)
{
	return *(volatile uint32_t *)(bar + reg);
}

static void set(uint32_t reg, uint32_t value)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* what was written to memory comes first */
	*(volatile uint32_t *)(bar + reg) = value;
}

static uint64_t region(uint32_t index, uint64_t *ret_size)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

	check_errno(ioctl(device_fd, VFIO_DEVICE_GET_REGION_INFO, &info), "region");
	*ret_size = info.size;
	return info.offset;
}

static uint16_t command_read(void)
{
	uint16_t command = 0;

	check_errno(pread(device_fd, &command, sizeof(command), config + PCI_COMMAND),
		    "PCI_COMMAND");
	return command;
}

/* Everything the driver needs, got or opened: on both starts the very same calls. */
static void start(const char *session, enum vfio_cpr_backend backend, const char *bdf)
{
	static const char *const names[] = {"new", "claimed", "resumed"};
	const uint32_t prot = VFIO_CPR_DMA_READ | VFIO_CPR_DMA_WRITE;
	struct vfio_cpr_device *device;
	struct vfio_cpr_memory *memory;
	struct vfio_cpr_space *space;
	enum vfio_cpr_start how;
	uint64_t offset, size;
	void *address;

	check(vfio_cpr_attach(cpr, session, &how), "attach");
	check(vfio_cpr_space_get(cpr, "dma", backend, &space), "space");
	check(vfio_cpr_device_get(space, bdf, &device), "device");
	check(vfio_cpr_memory_get(cpr, "ram", RAM_SIZE, 0, &memory), "memory");
	check(vfio_cpr_memory_map(memory, &address), "map");
	check(vfio_cpr_dma_map(space, 0, memory, 0, RAM_SIZE, prot), "DMA");
	check(vfio_cpr_device_irqs(device, VFIO_PCI_MSI_IRQ_INDEX, VFIO_CPR_IRQ_TRIGGER, 0, 1,
				   &interrupt_fd),
	      "interrupt");
	check(vfio_cpr_commit(cpr), "commit");
	/*
	 * A VMM whose irqfds feed a guest would vfio_cpr_kick() now: an interrupt may have died
	 * within the old virtual machine. This driver reads its eventfd itself: none is lost.
	 */

	ram = address;
	progress = address;
	device_fd = vfio_cpr_device_fd(device);
	offset = region(VFIO_PCI_BAR0_REGION_INDEX, &size);
	address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device_fd, offset);
	check_errno(address == MAP_FAILED ? -1 : 0, "BAR 0");
	bar = address;
	config = region(VFIO_PCI_CONFIG_REGION_INDEX, &size);
	printf("started start=%s device=%s backend=%s\n", names[how], bdf,
	       vfio_cpr_space_backend(space) == VFIO_CPR_BACKEND_TYPE1 ? "type1" : "iommufd");
}

/* Cold: done once in the device's life. A restart leaves all this as it is. */
static void device_init(void)
{
	uint16_t command = command_read() | PCI_COMMAND_MASTER;

	check_errno(pwrite(device_fd, &command, sizeof(command), config + PCI_COMMAND),
		    "PCI_COMMAND");
	__atomic_store_n(&progress->magic, MAGIC, __ATOMIC_RELEASE);
}

/* A reset clears bus mastering, and so does the last close of the device, which resets it. */
static int device_was_reset(void)
{
	return !(command_read() & PCI_COMMAND_MASTER);
}

static void dma_start(uint32_t source, uint32_t target, uint32_t command)
{
	set(DMA_SOURCE, source);
	set(DMA_TARGET, target);
	set(DMA_COUNT, BLOCK);
	set(DMA_COMMAND, command | RUN);
}

static void dma_wait(void)
{
	for (int msec = 0; get(DMA_COMMAND) & RUN; msec++) {
		errno = ETIMEDOUT;
		check_errno(msec > TIMEOUT_MSEC ? -1 : 0, "the device's DMA");
		usleep(1000);
	}
}

/* Whether one came in time. Polling consumes nothing. */
static int interrupt_wait(void)
{
	struct pollfd pollfd = {.fd = interrupt_fd, .events = POLLIN};

	return poll(&pollfd, 1, TIMEOUT_MSEC) == 1;
}

/* Acknowledges, and takes the count of what has come. */
static unsigned int interrupt_take(void)
{
	uint64_t count = 0;

	set(IRQ_ACK, get(IRQ_STATUS));
	return read(interrupt_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static uint8_t pattern(uint32_t round, uint32_t i)
{
	return round * 31 + i * 7 + (i >> 8);
}

/* Checks the block of the round started last, and completes it. */
static int round_complete(int interrupt)
{
	uint32_t round = progress->started;
	int data = 1;

	for (uint32_t i = 0; i < BLOCK; i++)
		data &= ram[TARGET + i] == pattern(round, i);
	progress->missed += !interrupt;
	progress->completed = round;
	return data;
}

/* Says when: whatever anybody sees of this death is later. */
static void die(uint32_t round)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("dying round=%u in-flight=yes at=%lld.%09ld\n", round, (long long)now.tv_sec,
	       now.tv_nsec);
	kill(getpid(), SIGKILL);
}

/* One block to the device and back. */
static int round_run(int die_in_flight)
{
	uint32_t round = progress->completed + 1;
	int interrupt, data;

	for (uint32_t i = 0; i < BLOCK; i++)
		ram[SOURCE + i] = pattern(round, i);
	memset(ram + TARGET, 0, BLOCK);
	dma_start(SOURCE, DEVICE_BUFFER, 0);
	dma_wait();

	/* Said before it is done: who dies between has a successor that looks. */
	progress->started = round;
	dma_start(DEVICE_BUFFER, TARGET, TO_RAM | INTERRUPT);
	if (die_in_flight)
		die(round);
	interrupt = interrupt_wait();
	progress->arrived = round;
	interrupt_take();
	data = round_complete(interrupt);
	printf("round n=%u data=%s interrupts=%u\n", round, data ? "ok" : "wrong",
	       round - progress->missed);
	return data && interrupt;
}

/* Restart: what has become of the DMA that was on its way when the predecessor died? */
static int round_resume(void)
{
	int interrupt, data;

	dma_wait();
	/* The register keeps the last command: without TO_RAM it was not even started. */
	if (progress->started == progress->completed || !(get(DMA_COMMAND) & TO_RAM)) {
		progress->started = progress->completed;
		printf("in-flight landed=none interrupt-pending=%u\n", interrupt_take());
		return 1;
	}
	/* Once it was seen to arrive, it may have been taken as well. */
	interrupt = progress->arrived == progress->started || interrupt_wait();
	data = round_complete(interrupt);
	printf("in-flight landed=%s interrupt-pending=%u\n", data ? "yes" : "no", interrupt_take());
	return data && interrupt;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"session", required_argument, NULL, 's'},
		{"backend", required_argument, NULL, 'b'},
		{"rounds", required_argument, NULL, 'r'},
		{"socket", required_argument, NULL, 'S'},
		{"unprotected", no_argument, NULL, 'u'},
		{"die-in-flight", no_argument, NULL, 'd'},
		{0},
	};
	const char *value[256] = {['s'] = NULL, ['b'] = "auto", ['r'] = "3"};
	enum vfio_cpr_backend backend = VFIO_CPR_BACKEND_AUTO;
	int ok = 1, reset, rounds, option;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		value[option] = optarg ? optarg : "";
	if (value['?'] || !value['s'] || optind != argc - 1) {
		fprintf(stderr,
			"usage: edu --session NAME [--backend type1|iommufd|auto] [--rounds N] "
			"[--socket PATH] [--unprotected] [--die-in-flight] BDF\n");
		return 2;
	}
	if (strcmp(value['b'], "auto") != 0)
		backend = strcmp(value['b'], "type1") == 0 ? VFIO_CPR_BACKEND_TYPE1
							   : VFIO_CPR_BACKEND_IOMMUFD;
	rounds = atoi(value['r']);

	check(vfio_cpr_open(value['S'], value['u'] ? VFIO_CPR_OPEN_UNPROTECTED : 0, &cpr), "open");
	start(value['s'], backend, argv[optind]);
	if (progress->magic == MAGIC)
		ok = round_resume();
	else
		device_init();
	reset = device_was_reset();
	printf("reset seen=%s\n", reset ? "yes" : "no");
	for (int i = 1; i <= rounds && ok; i++)
		ok = round_run(value['d'] && i == rounds);
	ok = ok && !reset && progress->missed == 0;
	printf("finished result=%s rounds=%u interrupts=%u\n", ok ? "ok" : "wrong",
	       progress->completed, progress->completed - progress->missed);
	vfio_cpr_close(cpr);
	return ok ? 0 : 1;
}
