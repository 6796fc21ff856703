/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What sysfs says of a device: its driver, its IOMMU group and who else is in it, its cdev. The
 * nodes of devices and groups are never opened: the first open resets the device, and an open
 * group keeps everybody else out.
 */
#include <stdio.h>
#include <string.h>

#include "cprctl/device.h"
#include "cprctl/hostcheck.h"
#include "cprctl/pci-address.h"

void device_clear(struct device *device)
{
	g_free(device->name);
	g_free(device->path);
	g_free(device->driver);
	g_free(device->vfio);
	g_free(device->group);
}

void device_open(struct device *device, const char *root, const char *bus, const char *name)
{
	g_autofree char *driver = NULL, *vfio_dev = NULL, *group = NULL;
	g_autoptr(GPtrArray) vfio = NULL;

	*device = (struct device){.root = root, .name = g_strdup(name)};
	device->path = g_strdup_printf("%s/sys/bus/%s/devices/%s", root, bus, name);
	driver = g_strconcat(device->path, "/driver", NULL);
	vfio_dev = g_strconcat(device->path, "/vfio-dev", NULL);
	group = g_strconcat(device->path, "/iommu_group", NULL);
	device->driver = sysfs_link(driver, &device->error);
	device->group = sysfs_link(group, &device->error);
	vfio = sysfs_list(vfio_dev, &device->error);
	if (vfio->len)
		device->vfio = g_strdup(vfio->pdata[0]);
}

/* A vfio-dev below the device (Linux 6.1) is the proof; before, all such drivers have the name. */
bool device_has_vfio_driver(const struct device *device)
{
	return device->driver && (device->vfio || strstr(device->driver, "vfio"));
}

bool device_is_noiommu(const struct device *device)
{
	g_autofree char *path = NULL, *name = NULL;

	if (device->vfio && g_str_has_prefix(device->vfio, "noiommu-"))
		return true;
	if (!device->group)
		return false;
	path = g_strdup_printf("%s/sys/kernel/iommu_groups/%s/name", device->root, device->group);
	name = sysfs_read(path, NULL);
	return name && g_str_equal(name, "vfio-noiommu");
}

GPtrArray *device_group_members(const struct device *device, int *error)
{
	g_autofree char *path = g_strdup_printf("%s/sys/kernel/iommu_groups/%s/devices",
						device->root, device->group);

	return sysfs_list(path, error);
}

char *device_full_name(const char *name)
{
	char *address = pci_address_complete(name);

	/* What is no address may be an mdev's UUID. */
	return address ? address : g_ascii_strdown(name, -1);
}

GPtrArray *devices_of_vfio(const char *root, int *error)
{
	g_autofree char *path = g_strconcat(root, "/sys/bus/pci/devices", NULL);
	GPtrArray *names = sysfs_list(path, error);

	for (guint i = names->len; i-- > 0;) {
		auto_device device = {0};

		device_open(&device, root, "pci", names->pdata[i]);
		if (device.error && !*error)
			*error = device.error;
		if (!device_has_vfio_driver(&device))
			g_ptr_array_remove_index(names, i);
	}
	return names;
}
