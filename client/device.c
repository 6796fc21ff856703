/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices. One that the session has is taken as it is: never bound, attached or reset, since each
 * of these would undo what its predecessor left running. One that it lacks is opened, joins its
 * address space, and is stored when all of that is done: a crash before loses nothing that anybody
 * was promised.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "client/cpr.h"
#include "client/inventory.h"
#include "common/fd.h"
#include "common/uapi.h"

struct vfio_cpr_device *device_wrap(struct vfio_cpr_space *space, struct object *object)
{
	struct vfio_cpr *cpr = space->cpr;
	struct vfio_cpr_device *device;

	g_assert(object);
	device = g_hash_table_lookup(cpr->devices, object->name);
	if (!device) {
		device = g_new0(struct vfio_cpr_device, 1);
		device->cpr = cpr;
		device->space = space;
		device->object = object;
		g_hash_table_insert(cpr->devices, object->name, device);
	}
	return device;
}

void device_free(struct vfio_cpr_device *device)
{
	for (size_t i = 0; i < G_N_ELEMENTS(device->regions); i++)
		if (device->regions[i].addr)
			munmap(device->regions[i].addr, device->regions[i].size);
	g_free(device);
}

static bool bdf_is_valid(const char *bdf)
{
	unsigned int domain, bus, slot, function;
	char same[32];

	if (!bdf || sscanf(bdf, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return false;
	snprintf(same, sizeof(same), "%04x:%02x:%02x.%x", domain, bus, slot, function);
	return strcmp(bdf, same) == 0 && bus <= 0xff && slot <= 0x1f && function <= 7;
}

static int fail_unbound(struct vfio_cpr *cpr, const char *bdf)
{
	return cpr_fail(cpr, -ENODEV,
			"device %s is not bound to a VFIO driver: write vfio-pci to its "
			"driver_override and its address to /sys/bus/pci/drivers_probe",
			bdf);
}

/*
 * type1: the group
 */

/* The number of the device's IOMMU group, as text; NULL: it has none. */
static char *device_group_name(const char *bdf)
{
	g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s/iommu_group", bdf);
	g_autofree char *target = g_file_read_link(path, NULL);

	return target ? g_path_get_basename(target) : NULL;
}

static int group_open(struct vfio_cpr *cpr, const char *group, const char *bdf)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	g_autofree char *path = g_strdup_printf("/dev/vfio/%s", group);
	auto_fd fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return fail_unbound(cpr, bdf);
	if (fd < 0 && errno == EBUSY)
		return cpr_fail(
			cpr, -EBUSY,
			"cannot open group %s of %s: %s: another process has it; only one may "
			"open a VFIO group. Stop it, or let it hand the device over through "
			"vfio-cprd",
			group, bdf, g_strerror(EBUSY));
	if (fd < 0)
		return cpr_fail(cpr, -errno,
				"cannot open group %s of %s: %s: this user needs access to %s",
				group, bdf, g_strerror(errno), path);
	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status) < 0)
		return cpr_fail(cpr, -errno, "cannot ask for the status of group %s of %s: %s",
				group, bdf, g_strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return cpr_fail(
			cpr, -ENODEV,
			"group %s of %s is not viable: other devices of it are bound to host "
			"drivers; bind all of /sys/kernel/iommu_groups/%s/devices to vfio-pci",
			group, bdf, group);
	return fd_take(&fd);
}

/* Makes the container a type1v2 IOMMU with the space's first group in it. */
static int container_set_iommu(struct vfio_cpr_space *space)
{
	int container = object_fd(space->context, 0);
	struct vfio_iommu_type1_info info = {.argsz = sizeof(info)};
	int error;

	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0)
		return 0;
	error = -errno;
	/* EINVAL is also how a container that has its IOMMU already answers. */
	if (error == -EINVAL && ioctl(container, VFIO_IOMMU_GET_INFO, &info) == 0)
		return 0;
	return cpr_fail(
		space->cpr, error, "cannot give the container of address space %s an IOMMU: %s%s",
		space->name, g_strerror(-error),
		error == -EPERM ? ": the platform cannot isolate interrupts; see the kernel's "
				  "log"
				: "");
}

static int group_join(struct vfio_cpr_space *space, int group, const char *name, const char *bdf)
{
	struct vfio_cpr *cpr = space->cpr;
	int container = object_fd(space->context, 0);
	bool first = !inventory_group(cpr, space->name);
	int r;

	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0) {
		r = -errno;
		return cpr_fail(cpr, r, "group %s of %s cannot join address space %s: %s%s", name,
				bdf, space->name, g_strerror(-r),
				r == -EBUSY ? ": DMA addresses are being restored; do "
					      "vfio_cpr_dma_restore() first"
					    : "");
	}
	if (first) {
		r = container_set_iommu(space);
		if (r < 0)
			return r;
	}
	/* Only a container with an IOMMU answers this truthfully, and an mdev turns it to 0. */
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR) != 1)
		return cpr_fail(
			cpr, -EOPNOTSUPP,
			"with %s in it, address space %s cannot be handed over: the kernel has "
			"no VFIO_UPDATE_VADDR for it. It needs Linux 6.0, and no mdev device",
			bdf, space->name);
	return 0;
}

/* Opens the device out of its group. */
static int group_device_open(struct vfio_cpr *cpr, int group, const char *name, const char *bdf)
{
	int fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);

	if (fd < 0 && errno == ENODEV)
		return fail_unbound(cpr, bdf);
	if (fd < 0)
		return cpr_fail(cpr, -errno, "cannot open device %s of group %s: %s", bdf, name,
				g_strerror(errno));
	return fd;
}

static int device_open_type1(struct vfio_cpr_space *space, const char *bdf,
			     struct object **ret_device)
{
	struct vfio_cpr *cpr = space->cpr;
	g_autofree char *name = device_group_name(bdf);
	auto_object fresh = NULL;
	auto_object device = NULL;
	struct object *objects[2];
	struct object *group;
	size_t n = 0;
	int fd, r;

	if (!name)
		return cpr_fail(
			cpr, -ENODEV,
			"device %s has no IOMMU group: enable the IOMMU in firmware and kernel "
			"(intel_iommu=on), and bind the device to vfio-pci",
			bdf);
	group = inventory_find(cpr, OBJECT_GROUP, name);
	if (group && g_strcmp0(group->attributes.space, space->name) != 0)
		return cpr_fail(
			cpr, -EINVAL,
			"device %s is in group %s, which address space %s has: all devices of a "
			"group share their space",
			bdf, name, group->attributes.space);
	if (!group) {
		fd = group_open(cpr, name, bdf);
		if (fd < 0)
			return fd;
		group = fresh = object_new(OBJECT_GROUP, name);
		object_set_fd(fresh, 0, fd);
		r = group_join(space, fd, name, bdf);
		if (r < 0)
			return r;
		fresh->attributes.space = g_strdup(space->name);
		objects[n++] = fresh;
	}

	fd = group_device_open(cpr, object_fd(group, 0), name, bdf);
	if (fd < 0)
		return fd;
	device = object_new(OBJECT_DEVICE, bdf);
	device->attributes.space = g_strdup(space->name);
	object_set_fd(device, 0, fd);
	objects[n++] = device;
	r = inventory_store(cpr, objects, n);
	if (r < 0)
		return r;
	*ret_device = objects[n - 1];
	fresh = device = NULL;
	return 0;
}

/*
 * iommufd: the cdev
 */

/* "/dev/vfio/devices/vfio3"; NULL: the device has none. */
static char *device_cdev_path(const char *bdf)
{
	g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s/vfio-dev", bdf);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	const char *name = dir ? g_dir_read_name(dir) : NULL;

	return name ? g_strdup_printf("/dev/vfio/devices/%s", name) : NULL;
}

static int device_open_iommufd(struct vfio_cpr_space *space, const char *bdf,
			       struct object **ret_device)
{
	struct vfio_cpr *cpr = space->cpr;
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = object_fd(space->context, 0),
	};
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = space->table_object->attributes.ioas_id,
	};
	g_autofree char *path = device_cdev_path(bdf);
	auto_object device = NULL;
	int fd, r;

	if (!path)
		return fail_unbound(cpr, bdf);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return cpr_fail(cpr, -errno, "cannot open %s of device %s: %s%s", path, bdf,
				g_strerror(errno),
				errno == ENOENT ? ": the kernel lacks CONFIG_VFIO_DEVICE_CDEV"
						: ": this user needs access to it");
	device = object_new(OBJECT_DEVICE, bdf);
	device->attributes.space = g_strdup(space->name);
	object_set_fd(device, 0, fd);

	if (ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0) {
		r = errno == EINVAL ? -EBUSY : -errno; /* EINVAL: bound through another file */
		return cpr_fail(cpr, r, "cannot bind device %s to the iommufd: %s%s", bdf,
				g_strerror(errno),
				r == -EBUSY
					? ": another process has it, or its group. Stop it, or let "
					  "it hand the device over through vfio-cprd"
					: "");
	}
	if (ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) < 0)
		return cpr_fail(cpr, -errno, "cannot attach device %s to address space %s: %s%s",
				bdf, space->name, g_strerror(errno),
				errno == ENOMEM ? ": its mappings are over RLIMIT_MEMLOCK" : "");
	device->attributes.devid = bind.out_devid;
	device->attributes.hwpt_id = attach.pt_id;
	r = inventory_store(cpr, &device, 1);
	if (r < 0)
		return r;
	*ret_device = device;
	device = NULL;
	return 0;
}

int vfio_cpr_device_get(struct vfio_cpr_space *space, const char *bdf,
			struct vfio_cpr_device **ret_device)
{
	struct vfio_cpr *cpr = space->cpr;
	struct object *object;
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	if (!bdf_is_valid(bdf))
		return cpr_fail(cpr, -EINVAL, "\"%s\" is no PCI address like 0000:3b:00.0",
				bdf ? bdf : "");
	object = inventory_find(cpr, OBJECT_DEVICE, bdf);
	if (object && g_strcmp0(object->attributes.space, space->name) != 0)
		return cpr_fail(cpr, -EINVAL, "device %s belongs to address space %s, not %s", bdf,
				object->attributes.space ? object->attributes.space : "(none)",
				space->name);
	if (!object) {
		g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s", bdf);

		if (!g_file_test(path, G_FILE_TEST_EXISTS))
			return cpr_fail(cpr, -ENODEV, "there is no PCI device %s", bdf);
		r = space->backend == VFIO_CPR_BACKEND_IOMMUFD
			    ? device_open_iommufd(space, bdf, &object)
			    : device_open_type1(space, bdf, &object);
		if (r < 0)
			return r;
	}
	*ret_device = device_wrap(space, object);
	return 0;
}

int vfio_cpr_device_fd(const struct vfio_cpr_device *device)
{
	return object_fd(device->object, 0);
}

bool vfio_cpr_device_is_restored(const struct vfio_cpr_device *device)
{
	return device->object->restored;
}

void vfio_cpr_device_ids(const struct vfio_cpr_device *device, uint32_t *ret_devid,
			 uint32_t *ret_hwpt_id)
{
	*ret_devid = device->object->attributes.devid >= 0 ? device->object->attributes.devid : 0;
	*ret_hwpt_id = device->object->attributes.hwpt_id >= 0 ? device->object->attributes.hwpt_id
							       : 0;
}

int device_region_map(struct vfio_cpr_device *device, uint32_t region, void **ret_addr,
		      uint64_t *ret_size)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = region};
	struct region_map *map;
	void *addr;

	if (region >= G_N_ELEMENTS(device->regions))
		return -EOPNOTSUPP;
	map = &device->regions[region];
	if (!map->addr) {
		if (ioctl(object_fd(device->object, 0), VFIO_DEVICE_GET_REGION_INFO, &info) < 0 ||
		    !(info.flags & VFIO_REGION_INFO_FLAG_MMAP) || info.size == 0)
			return -EOPNOTSUPP;
		addr = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    object_fd(device->object, 0), info.offset);
		if (addr == MAP_FAILED)
			return -EOPNOTSUPP;
		map->addr = addr;
		map->size = info.size;
	}
	*ret_addr = map->addr;
	*ret_size = map->size;
	return 0;
}
