/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The PCI configuration space: a snapshot, and whether the device is still what it was. Compared
 * is what a reset clears or a VMM sets; status bits and the like move by themselves.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "client/cpr.h"
#include "client/inventory.h"

#define CONFIG_SIZE VFIO_CPR_PCI_CONFIG_SIZE
#define MAX_CAPS    48 /* as many as fit: ends a loop in a broken list */
#define COMMAND_MASK \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)

static int config_read(struct vfio_cpr_device *device, uint8_t config[CONFIG_SIZE])
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	int fd = object_fd(device->object, 0);
	ssize_t n;

	if (ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		return cpr_fail(device->cpr, -errno, "device %s has no configuration space: %s",
				device->object->name, g_strerror(errno));
	n = pread(fd, config, CONFIG_SIZE, info.offset);
	if (n != CONFIG_SIZE) {
		int error = n < 0 ? -errno : -EIO;

		return cpr_fail(device->cpr, error,
				"cannot read the configuration space of device %s: %s",
				device->object->name, g_strerror(-error));
	}
	return 0;
}

static char *config_name(const struct vfio_cpr_device *device)
{
	return g_strdup_printf("%s/config", device->object->name);
}

int vfio_cpr_pci_snapshot(struct vfio_cpr_device *device)
{
	g_autofree char *name = config_name(device);
	uint8_t config[CONFIG_SIZE];
	int r;

	r = cpr_check(device->cpr);
	if (r == 0)
		r = config_read(device, config);
	return r < 0 ? r : vfio_cpr_state_put(device->cpr, name, config, sizeof(config));
}

static void mask_fill(uint8_t mask[CONFIG_SIZE], size_t offset, size_t size)
{
	for (size_t i = offset; i < offset + size && i < CONFIG_SIZE; i++)
		mask[i] = 0xff;
}

static uint16_t config_word(const uint8_t *config, size_t offset)
{
	return offset + 1 < CONFIG_SIZE ? config[offset] | config[offset + 1] << 8 : 0;
}

/* Which bits matter; config: the snapshot. */
static void mask_make(const uint8_t config[CONFIG_SIZE], uint8_t mask[CONFIG_SIZE])
{
	uint8_t at = config[PCI_CAPABILITY_LIST] & ~3;

	memset(mask, 0, CONFIG_SIZE);
	mask_fill(mask, PCI_VENDOR_ID, 4);
	mask[PCI_COMMAND] = COMMAND_MASK & 0xff;
	mask[PCI_COMMAND + 1] = COMMAND_MASK >> 8;
	mask_fill(mask, PCI_CLASS_REVISION, 4);
	mask_fill(mask, PCI_HEADER_TYPE, 1);
	mask_fill(mask, PCI_BASE_ADDRESS_0, 6 * 4);
	mask_fill(mask, PCI_SUBSYSTEM_VENDOR_ID, 4);
	mask_fill(mask, PCI_CAPABILITY_LIST, 1);

	if (!(config[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		return;
	for (int i = 0; i < MAX_CAPS && at >= PCI_STD_HEADER_SIZEOF; i++) {
		uint16_t control = config_word(config, at + 2);

		mask_fill(mask, at, 2);
		if (config[at] == PCI_CAP_ID_MSIX)
			mask_fill(mask, at + 2, PCI_CAP_MSIX_SIZEOF - 2);
		else if (config[at] == PCI_CAP_ID_MSI)
			/* control, address, data; the mask and pending bits move */
			mask_fill(mask, at + 2,
				  control & PCI_MSI_FLAGS_64BIT ? PCI_MSI_DATA_64
								: PCI_MSI_DATA_32);
		at = config[at + 1] & ~3;
	}
}

int vfio_cpr_pci_compare(struct vfio_cpr_device *device, int *ret_offset)
{
	g_autofree char *name = config_name(device);
	uint8_t config[CONFIG_SIZE] = {0}, mask[CONFIG_SIZE];
	void *data = NULL;
	uint8_t *snapshot;
	size_t size = 0;
	int offset = -1;
	int r;

	r = cpr_check(device->cpr);
	if (r == 0)
		r = config_read(device, config);
	if (r == 0)
		r = vfio_cpr_state_get(device->cpr, name, &data, &size);
	if (r < 0)
		return r;
	if (size != CONFIG_SIZE) {
		free(data);
		return cpr_fail(device->cpr, -EINVAL, "state %s is no snapshot: it has %zu bytes",
				name, size);
	}
	snapshot = data;
	mask_make(snapshot, mask);
	for (int i = 0; i < CONFIG_SIZE && offset < 0; i++)
		if ((snapshot[i] ^ config[i]) & mask[i])
			offset = i;
	free(data);
	*ret_offset = offset;
	return 0;
}
