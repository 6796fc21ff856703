/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which changes of a configuration space are told: what a reset clears or a VMM sets, no more. */
#include <errno.h>
#include <glib.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/fake-dma.h"
#include "tests/unit/suite.h"

#define SIZE VFIO_CPR_PCI_CONFIG_SIZE
#define MSIX 0x40
#define MSI  0x50
#define PM   0x70

static struct vfio_cpr_device *device;
static uint8_t config[SIZE];

/* In place of libc's: the configuration space is all of the device's file. */
int ioctl(int fd, unsigned long request, ...)
{
	struct vfio_region_info *info;
	va_list ap;

	ck_assert_int_eq(fd, vfio_cpr_device_fd(device));
	ck_assert_uint_eq(request, VFIO_DEVICE_GET_REGION_INFO);
	va_start(ap, request);
	info = va_arg(ap, struct vfio_region_info *);
	va_end(ap);
	ck_assert_uint_eq(info->index, VFIO_PCI_CONFIG_REGION_INDEX);
	info->offset = 0;
	return 0;
}

static void capability(uint8_t at, uint8_t id, uint8_t next)
{
	config[at] = id;
	config[at + 1] = next;
}

static void write_config(void)
{
	ck_assert_int_eq(pwrite(vfio_cpr_device_fd(device), config, SIZE, 0), SIZE);
}

/* MSI-X, then MSI with 64-bit addresses, then power management. */
static void setup(void)
{
	struct object *object = object_new(OBJECT_DEVICE, "0000:00:01.0");

	fixture_make(VFIO_CPR_BACKEND_TYPE1, 8, false);
	ck_assert_int_eq(fixture_open_space(), 0);
	object->attributes.space = g_strdup("dma");
	object_set_fd(object, 0, memfd_create("config", MFD_CLOEXEC));
	ck_assert_int_eq(inventory_store(fixture.cpr, &object, 1), 0);
	device = device_wrap(fixture.space, object);

	config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
	config[PCI_CAPABILITY_LIST] = MSIX;
	capability(MSIX, PCI_CAP_ID_MSIX, MSI);
	capability(MSI, PCI_CAP_ID_MSI, PM);
	config[MSI + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_64BIT;
	capability(PM, PCI_CAP_ID_PM, 0);
	write_config();
}

/* Where the first difference is after bits of the byte at offset have changed. */
static int changed(uint8_t offset, uint8_t bits)
{
	int difference = -2;

	config[offset] ^= bits;
	write_config();
	ck_assert_int_eq(vfio_cpr_pci_compare(device, &difference), 0);
	config[offset] ^= bits;
	return difference;
}

/* Told: bits of the bytes from `from` to `to` (both within). */
static const struct {
	uint8_t from, to, bits;
	bool is_told;
} bytes[] = {
	{PCI_VENDOR_ID, PCI_DEVICE_ID + 1, 0x80, true},
	{PCI_COMMAND, PCI_COMMAND, PCI_COMMAND_MEMORY, true},
	{PCI_COMMAND, PCI_COMMAND, PCI_COMMAND_MASTER, true},
	{PCI_COMMAND, PCI_COMMAND, PCI_COMMAND_PARITY, false},
	{PCI_COMMAND + 1, PCI_COMMAND + 1, PCI_COMMAND_INTX_DISABLE >> 8, true},
	{PCI_COMMAND + 1, PCI_COMMAND + 1, PCI_COMMAND_SERR >> 8, false},
	{PCI_STATUS, PCI_STATUS + 1, 0xff, false},
	{PCI_CLASS_REVISION, PCI_CLASS_DEVICE + 1, 0x01, true},
	{PCI_CACHE_LINE_SIZE, PCI_LATENCY_TIMER, 0xff, false},
	{PCI_HEADER_TYPE, PCI_HEADER_TYPE, 0x80, true},
	{PCI_BIST, PCI_BIST, 0xff, false},
	{PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_5 + 3, 0x10, true},
	{PCI_CARDBUS_CIS, PCI_CARDBUS_CIS + 3, 0xff, false},
	{PCI_SUBSYSTEM_VENDOR_ID, PCI_SUBSYSTEM_ID + 1, 0x01, true},
	{PCI_ROM_ADDRESS, PCI_ROM_ADDRESS + 3, 0xff, false},
	{PCI_CAPABILITY_LIST, PCI_CAPABILITY_LIST, 0x10, true},
	{PCI_INTERRUPT_LINE, PCI_INTERRUPT_LINE, 0xff, false},
	{MSIX, MSIX + PCI_CAP_MSIX_SIZEOF - 1, 0x01, true},
	{MSIX + PCI_CAP_MSIX_SIZEOF, MSI - 1, 0xff, false},
	{MSI, MSI + PCI_MSI_DATA_64 + 1, 0x01, true},
	{MSI + PCI_MSI_DATA_64 + 2, PM - 1, 0xff, false}, /* mask and pending bits */
	{PM, PM + 1, 0x01, true},
	{PM + PCI_PM_PMC, 0xff, 0xff, false},
};

START_TEST(what_a_reset_clears_is_told_and_what_moves_by_itself_is_not)
{
	ck_assert_int_eq(vfio_cpr_pci_snapshot(device), 0);
	ck_assert_int_eq(changed(0, 0), -1);
	for (int at = bytes[_i].from; at <= bytes[_i].to; at++)
		ck_assert_int_eq(changed(at, bytes[_i].bits), bytes[_i].is_told ? at : -1);
}
END_TEST

START_TEST(of_msi_with_32_bit_addresses_less_is_told)
{
	config[MSI + PCI_MSI_FLAGS] = 0;
	write_config();
	ck_assert_int_eq(vfio_cpr_pci_snapshot(device), 0);
	ck_assert_int_eq(changed(MSI + PCI_MSI_DATA_32 + 1, 0x01), MSI + PCI_MSI_DATA_32 + 1);
	ck_assert_int_eq(changed(MSI + PCI_MSI_MASK_32, 0x01), -1);
}
END_TEST

START_TEST(without_a_list_of_capabilities_none_is_looked_for)
{
	config[PCI_STATUS] = 0;
	write_config();
	ck_assert_int_eq(vfio_cpr_pci_snapshot(device), 0);
	ck_assert_int_eq(changed(MSIX + PCI_MSIX_FLAGS, 0x01), -1);
}
END_TEST

/* A device may say anything, and its predecessor's snapshot too. */
START_TEST(a_broken_list_of_capabilities_ends)
{
	capability(PM, PCI_CAP_ID_PM, MSIX);	 /* in a circle */
	capability(0xfc, PCI_CAP_ID_MSIX, 0xfc); /* over the end, and to itself */
	write_config();
	ck_assert_int_eq(vfio_cpr_pci_snapshot(device), 0);
	ck_assert_int_eq(changed(PM, 0x10), PM);
	config[PCI_CAPABILITY_LIST] = 0xfc;
	write_config();
	ck_assert_int_eq(vfio_cpr_pci_snapshot(device), 0);
	ck_assert_int_eq(changed(0xff, 0x01), 0xff);
	ck_assert_int_eq(changed(PM, 0x10), -1);
	config[PCI_CAPABILITY_LIST] = PCI_INTERRUPT_LINE; /* into the header */
	write_config();
	ck_assert_int_eq(vfio_cpr_pci_snapshot(device), 0);
	ck_assert_int_eq(changed(PCI_INTERRUPT_LINE, 0x01), -1);
}
END_TEST

START_TEST(there_is_nothing_to_compare_with_without_a_whole_snapshot)
{
	int difference;

	ck_assert_int_eq(vfio_cpr_pci_compare(device, &difference), -ENOENT);
	ck_assert_int_eq(vfio_cpr_state_put(fixture.cpr, "0000:00:01.0/config", config, SIZE - 1),
			 0);
	ck_assert_int_eq(vfio_cpr_pci_compare(device, &difference), -EINVAL);
	ck_assert_int_eq(ftruncate(vfio_cpr_device_fd(device), SIZE - 1), 0);
	ck_assert_int_eq(vfio_cpr_pci_compare(device, &difference), -EIO);
}
END_TEST

SUITE("pci", setup, fixture_end)
{
	tcase_add_loop_test(tests, what_a_reset_clears_is_told_and_what_moves_by_itself_is_not, 0,
			    G_N_ELEMENTS(bytes));
	tcase_add_test(tests, of_msi_with_32_bit_addresses_less_is_told);
	tcase_add_test(tests, without_a_list_of_capabilities_none_is_looked_for);
	tcase_add_test(tests, a_broken_list_of_capabilities_ends);
	tcase_add_test(tests, there_is_nothing_to_compare_with_without_a_whole_snapshot);
}
