/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a new VM has to tell KVM of the session's eventfds and devices. */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "client/cpr.h"
#include "client/inventory.h"

/* linux/kvm.h, Linux 6.6; the names before were KVM_DEV_VFIO_GROUP and _GROUP_ADD */
#define FILE_GROUP 1
#define FILE_ADD   1

int vfio_cpr_kvm_irqfd_assign(struct vfio_cpr *cpr, int vm_fd, int eventfd, uint32_t gsi,
			      int resample)
{
	struct kvm_irqfd irqfd = {.fd = eventfd, .gsi = gsi};
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	if (resample >= 0) {
		irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = resample;
	}
	if (ioctl(vm_fd, KVM_IRQFD, &irqfd) == 0)
		return 0;
	r = -errno;
	return cpr_fail(
		cpr, r, "cannot route eventfd %d to gsi %u: %s%s", eventfd, gsi, g_strerror(-r),
		r == -EBUSY    ? ": an irqfd of another VM has it; its process must deassign it "
				 "or exit first"
		: r == -EINVAL ? ": it needs the in-kernel irqchip, and the full one for "
				 "resampling"
			       : "");
}

int vfio_cpr_kvm_irqfd_deassign(struct vfio_cpr *cpr, int vm_fd, int eventfd, uint32_t gsi)
{
	struct kvm_irqfd irqfd = {.fd = eventfd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN};
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	if (ioctl(vm_fd, KVM_IRQFD, &irqfd) == 0)
		return 0;
	r = -errno;
	return cpr_fail(cpr, r, "cannot take eventfd %d from gsi %u: %s", eventfd, gsi,
			g_strerror(-r));
}

int vfio_cpr_kvm_add_device(struct vfio_cpr_device *device, int kvm_vfio_fd)
{
	struct vfio_cpr *cpr = device->cpr;
	struct object *file = device->object;
	int32_t fd;
	struct kvm_device_attr attr = {
		.group = FILE_GROUP,
		.attr = FILE_ADD,
		.addr = (uintptr_t)&fd,
	};
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	/* With type1 KVM is told of the group; all groups of a space were opened by this library. */
	if (device->space->backend == VFIO_CPR_BACKEND_TYPE1) {
		g_autofree char *link = g_strdup_printf("/sys/bus/pci/devices/%s/iommu_group",
							device->object->name);
		g_autofree char *target = g_file_read_link(link, NULL);
		g_autofree char *name = target ? g_path_get_basename(target) : NULL;

		file = name ? inventory_find(cpr, OBJECT_GROUP, name) : NULL;
		if (!file)
			return cpr_fail(cpr, -ENODEV, "the session has no group of device %s",
					device->object->name);
	}
	fd = object_fd(file, 0);
	if (ioctl(kvm_vfio_fd, KVM_SET_DEVICE_ATTR, &attr) == 0 || errno == EEXIST)
		return 0;
	r = -errno;
	return cpr_fail(cpr, r, "cannot tell KVM of device %s: %s", device->object->name,
			g_strerror(-r));
}
