/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What sysfs says of a device: its driver, its IOMMU group and who else is in it, its cdev. The
 * nodes of devices and groups are looked at but never opened: the first open resets the device,
 * and an open group keeps everybody else out.
 */
#include <stdio.h>
#include <string.h>

#include "cprctl/hostcheck.h"

/* Drivers that a group's other devices may have: they do no DMA of their own
 * (driver_managed_dma in the kernel). */
static const char *const harmless[] = {"pcieport", "pci-stub", "shpchp"};

struct device {
	const char *root;
	char *name;   /* as in sysfs */
	char *path;   /* its directory */
	char *driver; /* NULL: none */
	char *vfio;   /* the name of its VFIO device ("vfio0"), NULL if there is none */
	char *group;  /* the number of its IOMMU group, NULL if it has none */
};

static void device_clear(struct device *device)
{
	g_free(device->name);
	g_free(device->path);
	g_free(device->driver);
	g_free(device->vfio);
	g_free(device->group);
}

#define auto_device __attribute__((cleanup(device_clear))) struct device

static void device_open(struct device *device, const char *root, const char *bus, const char *name)
{
	g_autofree char *driver = NULL, *vfio_dev = NULL, *group = NULL;
	g_autoptr(GPtrArray) vfio = NULL;

	device->root = root;
	device->name = g_strdup(name);
	device->path = g_strdup_printf("%s/sys/bus/%s/devices/%s", root, bus, name);
	driver = g_strconcat(device->path, "/driver", NULL);
	vfio_dev = g_strconcat(device->path, "/vfio-dev", NULL);
	group = g_strconcat(device->path, "/iommu_group", NULL);
	device->driver = sysfs_link(driver);
	device->group = sysfs_link(group);
	vfio = sysfs_list(vfio_dev);
	if (vfio->len)
		device->vfio = g_strdup(vfio->pdata[0]);
}

/* A vfio-dev below the device (Linux 6.1) is the proof; before, all such drivers have the name. */
static bool has_vfio_driver(const struct device *device)
{
	return device->driver && (device->vfio || strstr(device->driver, "vfio"));
}

GPtrArray *devices_of_vfio(const char *root)
{
	g_autofree char *path = g_strconcat(root, "/sys/bus/pci/devices", NULL);
	GPtrArray *names = sysfs_list(path);

	for (guint i = names->len; i-- > 0;) {
		auto_device device = {0};

		device_open(&device, root, "pci", names->pdata[i]);
		if (!has_vfio_driver(&device))
			g_ptr_array_remove_index(names, i);
	}
	return names;
}

static void check_bound(Findings *findings, const struct device *device)
{
	const char *bdf = device->name;
	g_autofree char *unbind =
		device->driver
			? g_strdup_printf(" && echo %s > /sys/bus/pci/devices/%s/driver/unbind",
					  bdf, bdf)
			: g_strdup("");
	g_autofree char *remedy = g_strdup_printf(
		"modprobe vfio-pci && echo vfio-pci > /sys/bus/pci/devices/%s/driver_override%s && "
		"echo %s > /sys/bus/pci/drivers_probe",
		bdf, unbind, bdf);

	if (has_vfio_driver(device))
		findings_add(findings, "device-driver", bdf, CHECK_OK, 0, NULL, "is bound to %s",
			     device->driver);
	else if (device->driver)
		findings_add(findings, "device-driver", bdf, CHECK_BLOCKER, BACKEND_ALL, remedy,
			     "is bound to %s, which is no VFIO driver; stop its use on the host "
			     "first",
			     device->driver);
	else
		findings_add(findings, "device-driver", bdf, CHECK_BLOCKER, BACKEND_ALL, remedy,
			     "is bound to no driver");
}

/* The group's other devices which a host driver uses, as a list of words, or NULL. */
static char *rivals(const struct device *device)
{
	g_autofree char *path = g_strdup_printf("%s/sys/kernel/iommu_groups/%s/devices",
						device->root, device->group);
	g_autoptr(GPtrArray) names = sysfs_list(path);
	g_autoptr(GString) found = g_string_new(NULL);

	for (guint i = 0; i < names->len; i++) {
		auto_device other = {0};
		bool is_harmless = false;

		if (g_str_equal(names->pdata[i], device->name))
			continue;
		device_open(&other, device->root, "pci", names->pdata[i]);
		for (size_t j = 0; other.driver && j < G_N_ELEMENTS(harmless); j++)
			is_harmless |= g_str_equal(other.driver, harmless[j]);
		if (other.driver && !is_harmless && !has_vfio_driver(&other))
			g_string_append_printf(found, "%s%s (%s)", found->len ? ", " : "",
					       other.name, other.driver);
	}
	return found->len ? g_strdup(found->str) : NULL;
}

static bool is_noiommu(const struct device *device)
{
	g_autofree char *path = NULL, *name = NULL;

	if (device->vfio && g_str_has_prefix(device->vfio, "noiommu-"))
		return true;
	if (!device->group)
		return false;
	path = g_strdup_printf("%s/sys/kernel/iommu_groups/%s/name", device->root, device->group);
	name = sysfs_read(path);
	return name && g_str_equal(name, "vfio-noiommu");
}

static void check_group(Findings *findings, const struct device *device)
{
	g_autofree char *others = NULL, *node = NULL, *subject = NULL;

	if (is_noiommu(device)) {
		findings_add(findings, "device-group", device->name, CHECK_BLOCKER, BACKEND_TYPE1,
			     "Use iommufd, and that for tests only; or give the host an IOMMU",
			     "is used without an IOMMU: type1 has no mappings for it to hand over");
		return;
	}
	if (!device->group) {
		findings_add(findings, "device-group", device->name, CHECK_BLOCKER, BACKEND_ALL,
			     "Switch the IOMMU on in firmware and kernel",
			     "is in no IOMMU group: no IOMMU translates for it");
		return;
	}

	others = rivals(device);
	if (others) {
		findings_add(findings, "device-group", device->name, CHECK_BLOCKER, BACKEND_ALL,
			     "Bind these to vfio-pci as well, or to no driver; or put the device "
			     "into a slot of its own group",
			     "IOMMU group %s is not viable: it also has %s", device->group, others);
		return;
	}
	subject = g_strdup_printf("/dev/vfio/%s", device->group);
	node = g_strconcat(device->root, subject, NULL);
	if (has_vfio_driver(device) && !sysfs_exists(node))
		findings_add(findings, "device-group", device->name, CHECK_BLOCKER, BACKEND_TYPE1,
			     "Use a kernel with CONFIG_VFIO_GROUP, or iommufd; in a container, "
			     "give it that node",
			     "has no group node %s, which type1 needs", subject);
	else
		findings_add(findings, "device-group", device->name, CHECK_OK, 0, NULL,
			     "IOMMU group %s is viable", device->group);
}

static void check_cdev(Findings *findings, const struct device *device)
{
	g_autofree char *dev = g_strdup_printf("%s/vfio-dev/%s/dev", device->path, device->vfio);
	g_autofree char *subject = g_strdup_printf("/dev/vfio/devices/%s", device->vfio);
	g_autofree char *node = g_strconcat(device->root, subject, NULL);

	if (!device->vfio || !sysfs_exists(dev))
		findings_add(findings, "device-cdev", device->name, CHECK_BLOCKER, BACKEND_IOMMUFD,
			     "Use Linux 6.6 or later with CONFIG_VFIO_DEVICE_CDEV, or type1",
			     "has no cdev, which iommufd needs");
	else if (!sysfs_exists(node))
		findings_add(findings, "device-cdev", device->name, CHECK_BLOCKER, BACKEND_IOMMUFD,
			     "Let udev make that node; in a container, give it that node",
			     "has no node %s, which iommufd needs", subject);
	else
		findings_add(findings, "device-cdev", device->name, CHECK_OK, 0, NULL, "has %s",
			     subject);
}

static void check_mdev(Findings *findings, const struct device *device)
{
	findings_add(findings, "device-mdev", device->name, CHECK_BLOCKER, BACKEND_TYPE1,
		     "Use iommufd for it",
		     "is a mediated device: the kernel refuses VFIO_UPDATE_VADDR for every "
		     "container with one");
	if (has_vfio_driver(device))
		findings_add(findings, "device-driver", device->name, CHECK_OK, 0, NULL,
			     "is bound to %s", device->driver);
	check_cdev(findings, device);
}

/* The name in sysfs: short forms without a domain are completed, as lspci and QEMU take them. */
static char *full_name(const char *name)
{
	unsigned int bus, slot, function;
	int end = 0;

	if (sscanf(name, "%2x:%2x.%1x%n", &bus, &slot, &function, &end) == 3 && !name[end])
		return g_strdup_printf("0000:%02x:%02x.%x", bus, slot, function);
	return strchr(name, ':') ? g_ascii_strdown(name, -1) : g_strdup(name);
}

void check_device(Findings *findings, const char *root, const char *name)
{
	g_autofree char *full = full_name(name);
	auto_device device = {0};
	bool is_pci, is_path = strchr(name, '/') || *name == '.';

	device_open(&device, root, "pci", full);
	is_pci = !is_path && sysfs_exists(device.path);
	if (!is_pci) {
		device_clear(&device);
		device = (struct device){0};
		device_open(&device, root, "mdev", full);
		if (!is_path && sysfs_exists(device.path)) {
			check_mdev(findings, &device);
			return;
		}
		findings_add(findings, "device", name, CHECK_BLOCKER, BACKEND_ALL,
			     "'lspci -D' lists those there are; an mdev is named by its UUID",
			     "there is no such PCI device or mdev");
		return;
	}

	check_bound(findings, &device);
	check_group(findings, &device);
	/* There is neither a group node nor a cdev before a VFIO driver has the device. */
	if (has_vfio_driver(&device))
		check_cdev(findings, &device);
}
