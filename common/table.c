/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mapping table: its contract is in common/table.h. */
#include "common/table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/fd.h"

#define TABLE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)
#define TABLE_ALIGN 4096 /* the smallest page of any IOMMU; finer mappings do not exist */

static size_t table_length(uint32_t n_slots)
{
	return sizeof(struct table_header) + (size_t)n_slots * sizeof(struct table_slot);
}

int table_create(uint32_t n_slots)
{
	struct table_header header = {
		.magic = TABLE_MAGIC,
		.version = TABLE_VERSION,
		.slot_size = sizeof(struct table_slot),
		.slots = n_slots,
	};
	auto_fd fd = -1;

	if (n_slots == 0 || n_slots > TABLE_MAX_SLOTS)
		return -EINVAL;
	fd = memfd_create("vfio-cpr-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, table_length(n_slots)) < 0)
		return -errno;
	if (pwrite(fd, &header, sizeof(header), 0) != sizeof(header))
		return -EIO;
	if (fcntl(fd, F_ADD_SEALS, TABLE_SEALS | F_SEAL_SEAL) < 0)
		return -errno;
	return fd_take(&fd);
}

int table_read_header(int fd, struct table_header *ret_header)
{
	struct table_header header;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	/* Of shmem and hugetlbfs alone. A plain tmpfs file answers too, but cannot carry these. */
	if (seals < 0 || (seals & TABLE_SEALS) != TABLE_SEALS)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return -EINVAL;
	if (header.magic != TABLE_MAGIC || header.version != TABLE_VERSION ||
	    header.slot_size != sizeof(struct table_slot) || header.slots == 0 ||
	    header.slots > TABLE_MAX_SLOTS || st.st_size < 0 ||
	    (size_t)st.st_size != table_length(header.slots))
		return -EINVAL;
	*ret_header = header;
	return 0;
}

int table_check(int fd, uint32_t *ret_slots)
{
	struct table_header header = {0};
	int r = table_read_header(fd, &header);

	if (r == 0)
		*ret_slots = header.slots;
	return r;
}

int table_check_slot(const struct table_slot *slot)
{
	if (slot->state == TABLE_FREE)
		return 0;
	if (slot->state > TABLE_UNMAPPING || slot->size == 0 ||
	    slot->iova + slot->size - 1 < slot->iova ||
	    (slot->iova | slot->size | slot->offset) % TABLE_ALIGN != 0)
		return -EINVAL;
	return 1;
}

int table_open(int fd, bool writable, struct table *ret_table)
{
	uint32_t slots = 0;
	size_t length;
	void *address;
	int r = table_check(fd, &slots);

	if (r < 0)
		return r;
	length = table_length(slots);
	address = mmap(NULL, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	if (address == MAP_FAILED)
		return -errno;
	*ret_table = (struct table){
		.header = address,
		.slots = (struct table_slot *)((char *)address + sizeof(struct table_header)),
		.n_slots = slots,
		.length = length,
	};
	return 0;
}

void table_close(struct table *table)
{
	if (table->header)
		munmap(table->header, table->length);
	*table = (struct table){0};
}

uint32_t table_used(const struct table *table)
{
	uint32_t used = __atomic_load_n(&table->header->used, __ATOMIC_ACQUIRE);

	return used < table->n_slots ? used : table->n_slots;
}

int table_read(const struct table *table, uint32_t index, struct table_slot *ret_slot)
{
	struct table_slot slot;
	uint8_t state;
	int r;

	if (index >= table->n_slots)
		return -EINVAL;
	state = table_get_state(table, index);
	slot = table->slots[index];
	slot.state = state;
	r = table_check_slot(&slot);
	if (r > 0)
		*ret_slot = slot;
	return r;
}

void table_write(struct table *table, uint32_t index, const struct table_slot *slot)
{
	struct table_slot *to = &table->slots[index];

	if (index >= table->header->used)
		__atomic_store_n(&table->header->used, index + 1, __ATOMIC_RELEASE);
	to->iova = slot->iova;
	to->size = slot->size;
	to->offset = slot->offset;
	to->object = slot->object;
	to->prot = slot->prot;
	to->region = slot->region;
	table_set_state(table, index, slot->state);
}

void table_set_state(struct table *table, uint32_t index, enum table_state state)
{
	uint64_t changes = table->header->changes + 1;

	__atomic_store_n(&table->slots[index].state, state, __ATOMIC_RELEASE);
	/* Last, so that who has seen this number has seen the slot. 0 is kept for those who do not count. */
	__atomic_store_n(&table->header->changes, changes ? changes : 1, __ATOMIC_RELEASE);
}
