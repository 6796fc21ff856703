/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a device's place in the host means for handing it over: its driver, its IOMMU group and who
 * else is in it, its nodes.
 */
#include <string.h>

#include "cprctl/access.h"
#include "cprctl/device.h"
#include "cprctl/holder.h"
#include "cprctl/hostcheck.h"

/* Drivers that a group's other devices may have: they do no DMA of their own
 * (driver_managed_dma in the kernel). */
static const char *const harmless[] = {"pcieport", "pci-stub", "shpchp"};

/* The driver is gone from sysfs at once, but the kernel waits for whoever has the device open. */
static void check_unbinding(Findings *findings, const struct device *device, const json_t *session)
{
	g_autofree char *words = holder_words(session);
	g_autofree char *remedy = holder_remedy(session);

	findings_add(findings, "device-driver", device->name, CHECK_BLOCKER, BACKEND_ALL, remedy,
		     "is being unbound from its driver, and that waits for %s to let go", words);
}

static char *how_to_bind(const struct device *device)
{
	const char *bdf = device->name;
	g_autofree char *unbind =
		device->driver
			? g_strdup_printf(" && echo %s > /sys/bus/pci/devices/%s/driver/unbind",
					  bdf, bdf)
			: g_strdup("");

	return g_strdup_printf(
		"modprobe vfio-pci && echo vfio-pci > /sys/bus/pci/devices/%s/driver_override%s && "
		"echo %s > /sys/bus/pci/drivers_probe",
		bdf, unbind, bdf);
}

static void check_bound(Findings *findings, const struct check_scope *scope,
			const struct device *device)
{
	const json_t *session = holder_find(scope->sessions, device->name);
	g_autofree char *remedy = how_to_bind(device);

	if (device_has_vfio_driver(device))
		findings_add(findings, "device-driver", device->name, CHECK_OK, 0, NULL,
			     "is bound to %s", device->driver);
	else if (session && !device->driver)
		check_unbinding(findings, device, session);
	else if (device->driver)
		findings_add(findings, "device-driver", device->name, CHECK_BLOCKER, BACKEND_ALL,
			     remedy,
			     "is bound to %s, which is no VFIO driver; stop its use on the host "
			     "first",
			     device->driver);
	else
		findings_add(findings, "device-driver", device->name, CHECK_BLOCKER, BACKEND_ALL,
			     remedy, "is bound to no driver");
}

/* Linux lets nobody use a VF of a PF that is itself handed to user space without that PF's token. */
static void check_vf(Findings *findings, const struct device *device)
{
	auto_device pf = {0};
	g_autofree char *path = g_strconcat(device->path, "/physfn", NULL);
	g_autofree char *name = sysfs_link(path, NULL);
	g_autofree char *remedy = NULL;

	if (!name || !device_has_vfio_driver(device))
		return;
	device_open(&pf, device->root, "pci", name);
	if (!device_has_vfio_driver(&pf))
		return;
	remedy = g_strdup_printf("Bind %s to its host driver, and make the VFs by that", name);
	findings_add(findings, "device-vf", device->name, CHECK_BLOCKER, BACKEND_ALL, remedy,
		     "is a virtual function of %s, which is bound to %s: to open it the kernel "
		     "wants a VF token, which this version cannot pass",
		     name, pf.driver);
}

static bool is_rival(const struct device *other)
{
	for (size_t i = 0; other->driver && i < G_N_ELEMENTS(harmless); i++)
		if (g_str_equal(other->driver, harmless[i]))
			return false;
	return other->driver && !device_has_vfio_driver(other);
}

/* The group's other devices which a host driver uses, as a list of words, or NULL. */
static char *rivals(const struct device *device, int *error)
{
	g_autoptr(GPtrArray) names = device_group_members(device, error);
	g_autoptr(GString) found = g_string_new(NULL);

	for (guint i = 0; i < names->len; i++) {
		auto_device other = {0};

		if (g_str_equal(names->pdata[i], device->name))
			continue;
		device_open(&other, device->root, "pci", names->pdata[i]);
		if (other.error && !*error)
			*error = other.error;
		if (is_rival(&other))
			g_string_append_printf(found, "%s%s (%s)", found->len ? ", " : "",
					       other.name, other.driver);
	}
	return found->len ? g_strdup(found->str) : NULL;
}

/* Adds that something of a device could not be looked into. */
static void not_looked_into(Findings *findings, const char *check, const struct device *device,
			    unsigned int backends, int error)
{
	findings_add(findings, check, device->name, CHECK_UNKNOWN, backends,
		     "Run this on the host itself, as root", "was not looked into: %s",
		     g_strerror(-error));
}

static void check_group_node(Findings *findings, const struct check_scope *scope,
			     const struct device *device)
{
	g_autofree char *subject = g_strdup_printf("/dev/vfio/%s", device->group);
	g_autofree char *node = g_strconcat(device->root, subject, NULL);
	int error = 0;

	if (!device_has_vfio_driver(device) || sysfs_exists(node, &error)) {
		findings_add(findings, "device-group", device->name, CHECK_OK, 0, NULL,
			     "IOMMU group %s is viable", device->group);
		check_node(findings, scope,
			   &(struct node){"device-access", device->name, subject, "vfio",
					  BACKEND_TYPE1});
	} else if (error)
		not_looked_into(findings, "device-group", device, BACKEND_TYPE1, error);
	else
		findings_add(findings, "device-group", device->name, CHECK_BLOCKER, BACKEND_TYPE1,
			     "Use a kernel with CONFIG_VFIO_GROUP, or iommufd; in a container, "
			     "give it that node",
			     "has no group node %s, which type1 needs", subject);
}

static void check_group(Findings *findings, const struct check_scope *scope,
			const struct device *device)
{
	g_autofree char *others = NULL;
	int error = 0;

	if (device_is_noiommu(device)) {
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

	others = rivals(device, &error);
	if (others)
		findings_add(findings, "device-group", device->name, CHECK_BLOCKER, BACKEND_ALL,
			     "Bind these to vfio-pci as well, or to no driver; or put the device "
			     "into a slot of its own group",
			     "IOMMU group %s is not viable: it also has %s", device->group, others);
	else if (error)
		not_looked_into(findings, "device-group", device, BACKEND_ALL, error);
	else
		check_group_node(findings, scope, device);
}

static void check_cdev(Findings *findings, const struct check_scope *scope,
		       const struct device *device)
{
	g_autofree char *dev = g_strdup_printf("%s/vfio-dev/%s/dev", device->path, device->vfio);
	g_autofree char *subject = g_strdup_printf("/dev/vfio/devices/%s", device->vfio);
	g_autofree char *node = g_strconcat(device->root, subject, NULL);
	int error = 0;

	if (!device->vfio || (!sysfs_exists(dev, &error) && !error))
		findings_add(findings, "device-cdev", device->name, CHECK_BLOCKER, BACKEND_IOMMUFD,
			     "Use Linux 6.6 or later with CONFIG_VFIO_DEVICE_CDEV, or type1",
			     "has no cdev, which iommufd needs");
	else if (!error && sysfs_exists(node, &error)) {
		findings_add(findings, "device-cdev", device->name, CHECK_OK, 0, NULL, "has %s",
			     subject);
		check_node(findings, scope,
			   &(struct node){"device-access", device->name, subject, "vfio-dev",
					  BACKEND_IOMMUFD});
	} else if (error)
		not_looked_into(findings, "device-cdev", device, BACKEND_IOMMUFD, error);
	else
		findings_add(findings, "device-cdev", device->name, CHECK_BLOCKER, BACKEND_IOMMUFD,
			     "Let udev make that node; in a container, give it that node",
			     "has no node %s, which iommufd needs", subject);
}

static void check_mdev(Findings *findings, const struct check_scope *scope,
		       const struct device *device)
{
	findings_add(findings, "device-mdev", device->name, CHECK_BLOCKER, BACKEND_TYPE1,
		     "Use iommufd for it",
		     "is a mediated device: the kernel refuses VFIO_UPDATE_VADDR for every "
		     "container with one");
	if (device_has_vfio_driver(device))
		findings_add(findings, "device-driver", device->name, CHECK_OK, 0, NULL,
			     "is bound to %s", device->driver);
	check_cdev(findings, scope, device);
	check_holder(findings, scope, device);
}

static void check_pci(Findings *findings, const struct check_scope *scope,
		      const struct device *device)
{
	check_bound(findings, scope, device);
	check_vf(findings, device);
	check_group(findings, scope, device);
	/* There is neither a group node nor a cdev before a VFIO driver has the device. */
	if (device_has_vfio_driver(device))
		check_cdev(findings, scope, device);
	check_holder(findings, scope, device);
}

/* Whether the bus has it, or may have it: -errno in error if that cannot be told. */
static bool look_up(struct device *device, const char *root, const char *bus, const char *name,
		    int *error)
{
	device_clear(device);
	device_open(device, root, bus, name);
	return sysfs_exists(device->path, error);
}

void check_device(Findings *findings, const struct check_scope *scope, const char *name)
{
	g_autofree char *full = device_full_name(name);
	bool is_path = strchr(name, '/') || *name == '.';
	auto_device device = {.name = g_strdup(name)};
	int error = 0;

	if (!is_path && look_up(&device, scope->root, "pci", full, &error) && !device.error)
		check_pci(findings, scope, &device);
	else if (!is_path && !error && !device.error &&
		 look_up(&device, scope->root, "mdev", full, &error) && !device.error)
		check_mdev(findings, scope, &device);
	else if (error || device.error)
		not_looked_into(findings, "device", &device, BACKEND_ALL,
				error ? error : device.error);
	else
		findings_add(findings, "device", name, CHECK_BLOCKER, BACKEND_ALL,
			     "'lspci -D' lists those there are; an mdev is named by its UUID",
			     "there is no such PCI device or mdev");
}
