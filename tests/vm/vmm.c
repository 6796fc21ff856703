/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VMM on strings: does what it is told on stdin, one command a line, by the public header alone,
 * and answers each with one line: "ok ..." or "error ERRNO sentence". The tests drive it, kill it
 * and start its successor. The device is QEMU's edu (docs/specs/edu.txt of QEMU).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vfio-cpr.h"

#define MAX_THINGS 64
#define MAX_FDS	   4096
#define PAGE	   4096

/* Things by name, as the commands speak of them. */
struct thing {
	char name[64];
	void *pointer;
	volatile uint8_t *bar0;
};

static struct vfio_cpr *cpr;
static struct thing spaces[MAX_THINGS], devices[MAX_THINGS], memories[MAX_THINGS];
static int fds[MAX_FDS]; /* of the last irqs or eventfds command */
static char *word[16];
static int words;

static struct thing *find(struct thing *things, const char *name)
{
	for (int i = 0; i < MAX_THINGS; i++)
		if (things[i].pointer && strcmp(things[i].name, name) == 0)
			return &things[i];
	printf("error %d no %s was got yet\n", EINVAL, name);
	return NULL;
}

static void keep(struct thing *things, const char *name, void *pointer)
{
	for (int i = 0; i < MAX_THINGS; i++)
		if (!things[i].pointer || strcmp(things[i].name, name) == 0) {
			snprintf(things[i].name, sizeof(things[i].name), "%s", name);
			things[i].pointer = pointer;
			return;
		}
}

static uint64_t number(int i)
{
	return i < words ? strtoull(word[i], NULL, 0) : 0;
}

static void answer(int r, const char *rest)
{
	if (r < 0)
		printf("error %d %s\n", -r, vfio_cpr_strerror(cpr));
	else
		printf("ok %d%s\n", r, rest);
}

static void do_open(void)
{
	answer(vfio_cpr_open(word[1], number(2), &cpr), "");
}

static void do_attach(void)
{
	static const char *const names[] = {" start=new", " start=claimed", " start=resumed"};
	enum vfio_cpr_start start = 0;
	int r = vfio_cpr_attach(cpr, word[1], &start);

	answer(r, names[start]);
}

static void do_space(void)
{
	enum vfio_cpr_backend backend = strcmp(word[2], "type1") == 0	  ? VFIO_CPR_BACKEND_TYPE1
					: strcmp(word[2], "iommufd") == 0 ? VFIO_CPR_BACKEND_IOMMUFD
									  : VFIO_CPR_BACKEND_AUTO;
	struct vfio_cpr_space *space;
	int r = vfio_cpr_space_get(cpr, word[1], backend, &space);

	if (r == 0)
		keep(spaces, word[1], space);
	answer(r, "");
}

static void do_device(void)
{
	struct thing *space = find(spaces, word[1]);
	struct vfio_cpr_device *device;
	int r;

	if (!space)
		return;
	r = vfio_cpr_device_get(space->pointer, word[2], &device);
	if (r == 0)
		keep(devices, word[2], device);
	answer(r, r == 0 && vfio_cpr_device_is_restored(device) ? " restored=yes" : " restored=no");
}

static void do_memory(void)
{
	struct vfio_cpr_memory *memory;
	int r = vfio_cpr_memory_get(cpr, word[1], number(2), number(3), &memory);
	void *address;

	if (r == 0)
		r = vfio_cpr_memory_map(memory, &address);
	if (r == 0)
		keep(memories, word[1], memory);
	answer(r, r == 0 && vfio_cpr_memory_is_restored(memory) ? " restored=yes" : " restored=no");
}

/* map SPACE IOVA MEMORY OFFSET SIZE PROT [COUNT [STRIDE]]: COUNT mappings, STRIDE bytes of iova apart */
static void do_map(void)
{
	struct thing *space = find(spaces, word[1]),
		     *memory = space ? find(memories, word[3]) : NULL;
	uint64_t count = words > 7 ? number(7) : 1, stride = words > 8 ? number(8) : number(5);
	struct timespec start, end;
	char rest[64];
	int r = 0;

	if (!memory)
		return;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint64_t i = 0; i < count && r == 0; i++)
		r = vfio_cpr_dma_map(space->pointer, number(2) + i * stride, memory->pointer,
				     number(4) +
					     i * number(5) % vfio_cpr_memory_size(memory->pointer),
				     number(5), number(6));
	clock_gettime(CLOCK_MONOTONIC, &end);
	snprintf(rest, sizeof(rest), " usec=%ld",
		 (end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000);
	answer(r, rest);
}

static void do_map_bar(void)
{
	struct thing *space = find(spaces, word[1]),
		     *device = space ? find(devices, word[3]) : NULL;

	if (device)
		answer(vfio_cpr_dma_map_bar(space->pointer, number(2), device->pointer, 0,
					    number(4), number(5), number(6)),
		       "");
}

static void do_unmap(void)
{
	struct thing *space = find(spaces, word[1]);

	if (space)
		answer(vfio_cpr_dma_unmap(space->pointer, number(2), number(3)), "");
}

static void do_restore(void)
{
	struct thing *space = find(spaces, word[1]);

	if (space)
		answer(vfio_cpr_dma_restore(space->pointer), "");
}

static int print_mapping(uint64_t iova, uint64_t size, const char *object, uint64_t offset,
			 uint32_t prot, void *userdata)
{
	(void)userdata;
	printf(" 0x%" PRIx64 "+0x%" PRIx64 "=%s@0x%" PRIx64 "/%u", iova, size, object, offset,
	       prot);
	return 0;
}

static int count_mapping(uint64_t iova, uint64_t size, const char *object, uint64_t offset,
			 uint32_t prot, void *userdata)
{
	(void)iova;
	(void)object;
	(void)offset;
	(void)prot;
	*(uint64_t *)userdata += size;
	return 0;
}

/* mappings SPACE [all]: their number and bytes; with all, each of them first */
static void do_mappings(void)
{
	struct thing *space = find(spaces, word[1]);
	uint64_t bytes = 0;
	char rest[64];
	int r;

	if (!space)
		return;
	r = vfio_cpr_dma_for_each(space->pointer, count_mapping, &bytes);
	if (words > 2 && r >= 0) {
		printf("ok %d", r);
		vfio_cpr_dma_for_each(space->pointer, print_mapping, NULL);
		printf("\n");
		return;
	}
	snprintf(rest, sizeof(rest), " bytes=%" PRIu64, bytes);
	answer(r, rest);
}

/* irqs BDF INDEX ACTION FIRST COUNT */
static void do_irqs(void)
{
	struct thing *device = find(devices, word[1]);

	if (device)
		answer(vfio_cpr_device_irqs(device->pointer, number(2), number(3), number(4),
					    number(5), fds + number(4)),
		       "");
}

/* eventfds NAME FIRST COUNT */
static void do_eventfds(void)
{
	uint32_t restored = 0;
	char rest[64];
	int r = vfio_cpr_eventfds_get(cpr, word[1], number(2), number(3), fds + number(2),
				      &restored);

	snprintf(rest, sizeof(rest), " restored=%u", restored);
	answer(r, rest);
}

/* number-eventfds FIRST COUNT: writes to each a number of its own, by which its order is told */
static void do_number_eventfds(void)
{
	for (uint64_t i = number(1); i < number(1) + number(2); i++)
		eventfd_write(fds[i], i + 1);
	answer(0, "");
}

/* check-eventfds FIRST COUNT: reads them; how many have that number */
static void do_check_eventfds(void)
{
	eventfd_t value;
	int right = 0;

	for (uint64_t i = number(1); i < number(1) + number(2); i++)
		right += eventfd_read(fds[i], &value) == 0 && value == i + 1;
	answer(right, "");
}

/* wait VECTOR MSEC: waits for its interrupt and consumes it; how many there were */
static void do_wait(void)
{
	struct pollfd event = {.fd = fds[number(1)], .events = POLLIN};
	eventfd_t value = 0;

	if (poll(&event, 1, number(2)) > 0)
		eventfd_read(event.fd, &value);
	answer(value, "");
}

static volatile uint8_t *bar0(struct thing *device)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = VFIO_PCI_BAR0_REGION_INDEX};
	int fd = vfio_cpr_device_fd(device->pointer);
	void *address;

	if (device->bar0)
		return device->bar0;
	if (ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		return NULL;
	address = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, info.offset);
	if (address != MAP_FAILED)
		device->bar0 = address;
	return device->bar0;
}

/* register BDF OFFSET [VALUE]: reads or writes a register of BAR 0 */
static void do_register(void)
{
	struct thing *device = find(devices, word[1]);
	volatile uint32_t *where;
	char rest[32];

	if (!device)
		return;
	if (!bar0(device)) {
		printf("error %d cannot map BAR 0: %s\n", errno, strerror(errno));
		return;
	}
	where = (volatile uint32_t *)(bar0(device) + number(2));
	if (words > 3)
		*where = number(3);
	snprintf(rest, sizeof(rest), " value=0x%x", words > 3 ? 0 : *where);
	answer(0, rest);
}

/* config BDF OFFSET [VALUE]: reads or writes 16 bits of configuration space */
static void do_config(void)
{
	struct thing *device = find(devices, word[1]);
	struct vfio_region_info info = {.argsz = sizeof(info),
					.index = VFIO_PCI_CONFIG_REGION_INDEX};
	uint16_t value = number(3);
	char rest[32];
	int fd;

	if (!device)
		return;
	fd = vfio_cpr_device_fd(device->pointer);
	ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info);
	if ((words > 3 ? pwrite(fd, &value, 2, info.offset + number(2))
		       : pread(fd, &value, 2, info.offset + number(2))) != 2) {
		printf("error %d configuration space: %s\n", errno, strerror(errno));
		return;
	}
	snprintf(rest, sizeof(rest), " value=0x%x", value);
	answer(0, rest);
}

/* fill MEMORY OFFSET SIZE BYTE; check MEMORY OFFSET SIZE BYTE: how many bytes are right */
static void do_fill(void)
{
	struct thing *memory = find(memories, word[1]);
	void *address;

	if (!memory)
		return;
	vfio_cpr_memory_map(memory->pointer, &address);
	memset((char *)address + number(2), number(4), number(3));
	answer(0, "");
}

static void do_check(void)
{
	struct thing *memory = find(memories, word[1]);
	void *address;
	int right = 0;

	if (!memory)
		return;
	vfio_cpr_memory_map(memory->pointer, &address);
	for (uint64_t i = 0; i < number(3); i++)
		right += ((uint8_t *)address)[number(2) + i] == number(4);
	answer(right, "");
}

/* dma BDF SOURCE DESTINATION COUNT COMMAND: starts edu's DMA engine */
static void do_dma(void)
{
	struct thing *device = find(devices, word[1]);

	if (!device || !bar0(device))
		return;
	*(volatile uint64_t *)(bar0(device) + 0x80) = number(2);
	*(volatile uint64_t *)(bar0(device) + 0x88) = number(3);
	*(volatile uint64_t *)(bar0(device) + 0x90) = number(4);
	*(volatile uint64_t *)(bar0(device) + 0x98) = number(5) | 1;
	answer(0, "");
}

/* dma-wait BDF: until the engine is idle */
static void do_dma_wait(void)
{
	struct thing *device = find(devices, word[1]);
	struct timespec pause = {.tv_nsec = 1000 * 1000};
	int patience = 10000;

	if (!device || !bar0(device))
		return;
	while ((*(volatile uint64_t *)(bar0(device) + 0x98) & 1) && patience-- > 0)
		nanosleep(&pause, NULL);
	answer(patience > 0 ? 0 : -ETIMEDOUT, "");
}

static int kvm_vm = -1, kvm_vfio = -1;

/* kvm: makes a virtual machine, with interrupt controllers and a VFIO device of KVM's */
static void do_kvm(void)
{
	struct kvm_enable_cap irqchip = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	kvm_vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (kvm_vm < 0 || ioctl(kvm_vm, KVM_ENABLE_CAP, &irqchip) < 0 ||
	    ioctl(kvm_vm, KVM_CREATE_DEVICE, &create) < 0) {
		printf("error %d no KVM: %s\n", errno, strerror(errno));
		return;
	}
	kvm_vfio = create.fd;
	answer(0, "");
}

/* irqfd VECTOR GSI [deassign] */
static void do_irqfd(void)
{
	answer(words > 3 ? vfio_cpr_kvm_irqfd_deassign(cpr, kvm_vm, fds[number(1)], number(2))
			 : vfio_cpr_kvm_irqfd_assign(cpr, kvm_vm, fds[number(1)], number(2), -1),
	       "");
}

static void do_kvm_device(void)
{
	struct thing *device = find(devices, word[1]);

	if (device)
		answer(vfio_cpr_kvm_add_device(device->pointer, kvm_vfio), "");
}

static void do_state_put(void)
{
	answer(vfio_cpr_state_put(cpr, word[1], word[2], strlen(word[2])), "");
}

static void do_state_get(void)
{
	void *data = NULL;
	size_t size = 0;
	int r = vfio_cpr_state_get(cpr, word[1], &data, &size);

	if (r < 0)
		answer(r, "");
	else
		printf("ok 0 data=%.*s\n", (int)size, (char *)data);
	free(data);
}

static int print_blocker(const char *object, const char *reason, void *userdata)
{
	(void)userdata;
	fprintf(stderr, "blocker: %s: %s\n", object, reason);
	return 0;
}

static void do_blockers(void)
{
	answer(vfio_cpr_blockers(cpr, print_blocker, NULL), "");
}

static void do_snapshot(void)
{
	struct thing *device = find(devices, word[1]);

	if (device)
		answer(vfio_cpr_pci_snapshot(device->pointer), "");
}

static void do_compare(void)
{
	struct thing *device = find(devices, word[1]);
	int offset = 0, r;
	char rest[32];

	if (!device)
		return;
	r = vfio_cpr_pci_compare(device->pointer, &offset);
	snprintf(rest, sizeof(rest), " difference=%d", offset);
	answer(r, rest);
}

static void do_event(void)
{
	static const char *const names[] = {" event=none", " event=released", " event=disconnected",
					    " event=connected"};
	struct pollfd poller = {.fd = vfio_cpr_get_fd(cpr), .events = vfio_cpr_get_events(cpr)};
	enum vfio_cpr_event event = 0;
	int r;

	poll(&poller, 1, number(1));
	r = vfio_cpr_process(cpr, &event);
	answer(r, names[event]);
}

static void do_commit(void)
{
	answer(vfio_cpr_commit(cpr), "");
}

static void do_kick(void)
{
	answer(vfio_cpr_kick(cpr), "");
}

static void do_release(void)
{
	answer(vfio_cpr_release(cpr), "");
}

static void do_protected(void)
{
	answer(vfio_cpr_is_protected(cpr), "");
}

static void do_die(void)
{
	fflush(stdout);
	kill(getpid(), SIGKILL);
}

static const struct {
	const char *name;
	void (*run)(void);
	int min_words;
} commands[] = {
	{"open", do_open, 2},
	{"attach", do_attach, 2},
	{"space", do_space, 3},
	{"device", do_device, 3},
	{"memory", do_memory, 3},
	{"map", do_map, 7},
	{"map-bar", do_map_bar, 7},
	{"unmap", do_unmap, 4},
	{"restore", do_restore, 2},
	{"mappings", do_mappings, 2},
	{"irqs", do_irqs, 6},
	{"eventfds", do_eventfds, 4},
	{"number-eventfds", do_number_eventfds, 3},
	{"check-eventfds", do_check_eventfds, 3},
	{"wait", do_wait, 3},
	{"register", do_register, 3},
	{"config", do_config, 3},
	{"fill", do_fill, 5},
	{"check", do_check, 5},
	{"dma", do_dma, 6},
	{"dma-wait", do_dma_wait, 2},
	{"kvm", do_kvm, 1},
	{"irqfd", do_irqfd, 3},
	{"kvm-device", do_kvm_device, 2},
	{"state-put", do_state_put, 3},
	{"state-get", do_state_get, 2},
	{"blockers", do_blockers, 1},
	{"snapshot", do_snapshot, 2},
	{"compare", do_compare, 2},
	{"event", do_event, 2},
	{"commit", do_commit, 1},
	{"kick", do_kick, 1},
	{"release", do_release, 1},
	{"protected", do_protected, 1},
	{"die", do_die, 1},
};

static void run(char *line)
{
	words = 0;
	for (char *save = NULL, *next = strtok_r(line, " \n", &save); next && words < 16;
	     next = strtok_r(NULL, " \n", &save))
		word[words++] = next;
	for (size_t i = 0; words > 0 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, word[0]) == 0 && words >= commands[i].min_words) {
			commands[i].run();
			return;
		}
	printf("error %d unknown command, or too few words\n", EINVAL);
}

int main(void)
{
	char line[1024];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin))
		run(line);
	vfio_cpr_close(cpr);
	return 0;
}
