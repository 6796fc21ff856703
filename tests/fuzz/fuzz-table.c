/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hostile mapping table: table_reader_next(), space_count(), and the library's table_read(). The
 * first byte says whether the header is to be made good (else hardly any input gets past it), and
 * whether the rest of the input changes the table once it is open.
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
#include "daemon/tableread.h"

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

static void use(int fd)
{
	uint64_t count = 0, bytes = 0, changes;
	struct table_reader reader;
	struct table_slot slot;
	char *warning = NULL;
	int r = table_reader_begin(&reader, fd);

	while (r >= 0 && (r = table_reader_next(&reader, UINT32_MAX, &slot)) > 0) {
		g_assert(reader.next <= reader.used && reader.used <= reader.slots);
		g_assert(slot.state >= TABLE_MAPPED && slot.state <= TABLE_UNMAPPING);
		g_assert(slot.size > 0 && slot.iova + slot.size - 1 >= slot.iova);
		g_assert((slot.iova | slot.size | slot.offset) % 4096 == 0);
	}
	if (space_count(fd, &count, &bytes, &changes) == 0)
		g_assert(count <= reader.slots && bytes <= INT64_MAX);
	space_invalidate(-1, fd, &warning);
	g_free(warning);
}

/* As a successor's library does, by what it is mapped to, which nobody changes any more. */
static void read_mapped(int fd)
{
	struct table table = {0};
	struct table_slot slot;
	uint32_t slots;

	if (table_check(fd, &slots) < 0 || table_open(fd, false, &table) < 0)
		return;
	for (uint32_t i = 0; i < slots; i++) {
		if (table_read(&table, i, &slot) <= 0)
			continue;
		g_assert(slot.state >= TABLE_MAPPED && slot.state <= TABLE_UNMAPPING);
		g_assert(slot.size > 0 && slot.iova + slot.size - 1 >= slot.iova);
		g_assert((slot.iova | slot.size | slot.offset) % 4096 == 0);
	}
	table_close(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct table_header header;
	struct table writer = {0};
	uint32_t slots;
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
	if (table_check(fd, &slots) == 0) {
		g_assert(!(how & 4));
		use(fd);
		read_mapped(fd);
		if (how & 2 && table_open(fd, true, &writer) == 0) {
			/* Turned round: other bytes everywhere, the header too. */
			for (size_t i = 0; i < length; i++)
				((uint8_t *)writer.header)[i] = data[length - 1 - i];
			use(fd);
			read_mapped(fd);
		}
	}
	table_close(&writer);
	close(fd);
	return 0;
}
