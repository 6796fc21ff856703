/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands on devices, their interrupts and KVM. The device is QEMU's edu (docs/specs/edu.txt of QEMU). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/vm/vmm.h"

#define MAX_FDS 4096

static struct thing *devices;
static int fds[MAX_FDS]; /* of the last irqs or eventfds command */

static void do_device(void)
{
	struct thing *space = find(spaces, word[1]);
	struct vfio_cpr_device *device;
	int r;

	if (!space)
		return;
	r = vfio_cpr_device_get(space->pointer, word[2], &device);
	if (r == 0)
		keep(&devices, word[2], device);
	answer(r, r == 0 && vfio_cpr_device_is_restored(device) ? " restored=yes" : " restored=no");
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

const struct command device_commands[] = {
	{"device", do_device, 3},
	{"map-bar", do_map_bar, 7},
	{"irqs", do_irqs, 6},
	{"eventfds", do_eventfds, 4},
	{"number-eventfds", do_number_eventfds, 3},
	{"check-eventfds", do_check_eventfds, 3},
	{"wait", do_wait, 3},
	{"register", do_register, 3},
	{"config", do_config, 3},
	{"dma", do_dma, 6},
	{"dma-wait", do_dma_wait, 2},
	{"kvm", do_kvm, 1},
	{"irqfd", do_irqfd, 3},
	{"kvm-device", do_kvm_device, 2},
	{"snapshot", do_snapshot, 2},
	{"compare", do_compare, 2},
	{0},
};
