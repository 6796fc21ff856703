/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One device as sysfs shows it: facts only, devicecheck.c judges them. */
#ifndef CPRCTL_DEVICE_H
#define CPRCTL_DEVICE_H

#include <glib.h>
#include <stdbool.h>

struct device {
	const char *root;
	char *name;   /* as in sysfs */
	char *path;   /* its directory */
	char *driver; /* NULL: none */
	char *vfio;   /* the name of its VFIO device ("vfio0"), NULL if there is none */
	char *group;  /* the number of its IOMMU group, NULL if it has none */
	int error;    /* -errno of the first of these that could not be looked at, or 0 */
};

void device_open(struct device *device, const char *root, const char *bus, const char *name);
void device_clear(struct device *device);
#define auto_device __attribute__((cleanup(device_clear))) struct device

bool device_has_vfio_driver(const struct device *device);
bool device_is_noiommu(const struct device *device);

/* The devices of its IOMMU group, itself among them, sorted. */
GPtrArray *device_group_members(const struct device *device, int *error);

/* The name in sysfs: short forms without a domain are completed, as lspci and QEMU take them. */
char *device_full_name(const char *name);

#endif
