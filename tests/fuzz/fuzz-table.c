/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hostile mapping table: table_open(), table_read(), space_count(). The first byte says whether
 * the header is to be made good (else hardly any input gets past it), and whether the rest of the
 * input changes the table once it is open.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/table.h"
#include "daemon/kernel.h"
#include "daemon/space.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fake_unmap_vaddr(int container, bool all, uint64_t iova, uint64_t size,
			    uint64_t *ret_size)
{
	(void)container;
	if (all)
		return -EINVAL; /* so that each mapping is asked for */
	g_assert(size > 0 && iova + size - 1 >= iova && (iova | size) % 4096 == 0);
	*ret_size = size;
	return 0;
}

static const struct kernel_ops fake = {.unmap_vaddr = fake_unmap_vaddr};

static void use(const struct table *table)
{
	uint64_t count = 0, bytes = 0;
	struct table_slot slot;
	char *warning = NULL;

	g_assert(table_used(table) <= table->n_slots);
	for (uint32_t i = 0; i <= table->n_slots; i++) {
		int r = table_read(table, i, &slot);

		g_assert(i < table->n_slots || r < 0);
		if (r <= 0)
			continue;
		g_assert(slot.state >= TABLE_MAPPED && slot.state <= TABLE_UNMAPPING);
		g_assert(slot.size > 0 && slot.iova + slot.size - 1 >= slot.iova);
		g_assert((slot.iova | slot.size | slot.offset) % 4096 == 0);
	}
	space_count(table, &count, &bytes);
	g_assert(count <= table->n_slots && bytes <= INT64_MAX);
	space_invalidate(-1, table, &warning);
	g_free(warning);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct table_header header;
	struct table table = {0}, writer = {0};
	uint8_t how = size > 0 ? data[0] : 0;
	size_t length;
	int fd = memfd_create("table", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	kernel = &fake;
	if (size > 0) {
		data++;
		size--;
	}
	length = how & 1 && size >= 96 ? size - (size - 64) % 32 : size;
	if (fd < 0 || ftruncate(fd, length) < 0 || pwrite(fd, data, length, 0) != (ssize_t)length)
		abort();
	if (how & 1 && length >= 96) {
		memcpy(&header, data, sizeof(header));
		header.magic = TABLE_MAGIC;
		header.version = TABLE_VERSION;
		header.slot_size = sizeof(struct table_slot);
		header.slots = (length - 64) / 32;
		if (pwrite(fd, &header, sizeof(header), 0) != sizeof(header))
			abort();
	}
	fcntl(fd, F_ADD_SEALS, how & 4 ? F_SEAL_GROW : F_SEAL_SHRINK | F_SEAL_GROW);
	if (table_open(fd, false, &table) == 0) {
		g_assert(!(how & 4));
		use(&table);
		if (how & 2 && table_open(fd, true, &writer) == 0) {
			/* Turned round: other bytes everywhere, the header too. */
			for (size_t i = 0; i < length; i++)
				((uint8_t *)writer.header)[i] = data[length - 1 - i];
			use(&table);
		}
	}
	table_close(&writer);
	table_close(&table);
	close(fd);
	return 0;
}
