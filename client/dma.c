/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * DMA mappings, and the table in which each is recorded: the intent before the ioctl, the outcome
 * after. Recording is a hash look-up and a few stores beside an ioctl of microseconds. Who dies in
 * between leaves an intent; dma-restore.c resolves it.
 */
#include "client/dma.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "client/inventory.h"
#include "client/slots.h"

#define PROT_ALL (VFIO_CPR_DMA_READ | VFIO_CPR_DMA_WRITE)

/*
 * Map
 */

/* The sentence of a failed map ioctl, and what its errno means here. */
static int map_fail(struct vfio_cpr_space *space, const struct table_slot *slot, int error)
{
	struct vfio_cpr *cpr = space->cpr;
	const struct object *object = inventory_find_id(cpr, slot->object);
	const char *why = "";

	switch (error) {
	case -EEXIST:
		why = ": another mapping overlaps it";
		break;
	case -ENOSPC:
		why = ": the container has too many mappings; raise vfio_iommu_type1's "
		      "dma_entry_limit, or map larger pieces";
		break;
	case -ENOMEM:
		why = ": over RLIMIT_MEMLOCK of this process";
		break;
	case -EINVAL:
	case -EOVERFLOW:
		/* Alignment and length were checked: what is left is the address. */
		error = -ERANGE;
		why = ": outside of what the IOMMU can reach, or in a reserved range";
		break;
	default:
		break;
	}
	return cpr_fail(cpr, error,
			"cannot map %" PRIu64 " bytes of %s at iova 0x%" PRIx64
			" of address space %s: %s%s",
			slot->size, object ? object->name : "?", slot->iova, space->name,
			g_strerror(-error), why);
}

static bool slot_is_same(const struct table_slot *a, const struct table_slot *b)
{
	return a->iova == b->iova && a->size == b->size && a->object == b->object &&
	       a->offset == b->offset && a->prot == b->prot && a->region == b->region;
}

/* Records and makes the mapping want; vaddr is for type1, fd for iommufd. */
static int slot_map(struct vfio_cpr_space *space, const struct table_slot *want, void *vaddr,
		    int fd)
{
	int64_t slot = slots_find(space, want->iova);
	int r;

	/* What an intent has become is known once it is resolved, which may free its slot. */
	if (slot >= 0 && slots_is_pending(space, slot) &&
	    (space->table.slots[slot].state != TABLE_MAPPED ||
	     slot_is_same(&space->table.slots[slot], want))) {
		r = dma_restore_one(space, slot);
		if (r < 0)
			return r;
		slot = slots_find(space, want->iova);
	}
	if (slot >= 0)
		return slot_is_same(&space->table.slots[slot], want)
			       ? 0
			       : map_fail(space, want, -EEXIST);

	slot = slots_alloc(space);
	if (slot < 0)
		return cpr_fail(
			space->cpr, -ENOSPC,
			"the mapping table of address space %s is full (%u): map larger pieces",
			space->name, space->table.n_slots);
	table_write(&space->table, slot, want);
	r = space->backend == VFIO_CPR_BACKEND_IOMMUFD ? dma_ioctl_map_file(space, want, fd)
						       : dma_ioctl_map(space, want, vaddr);
	if (r < 0) {
		slots_free(space, slot);
		return map_fail(space, want, r);
	}
	slots_mapped(space, slot);
	return 0;
}

static int map_check(struct vfio_cpr_space *space, uint64_t iova, uint64_t offset, uint64_t size,
		     uint32_t prot, uint64_t object_size, const char *object)
{
	struct vfio_cpr *cpr = space->cpr;

	if (prot == 0 || (prot & ~PROT_ALL))
		return cpr_fail(cpr, -EINVAL, "mapping of %s: prot 0x%x is neither read nor write",
				object, prot);
	if (size == 0 || ((iova | offset | size) & (cpr->page_size - 1)))
		return cpr_fail(cpr, -EINVAL,
				"mapping of %s: iova 0x%" PRIx64 ", offset 0x%" PRIx64
				" and size 0x%" PRIx64 " must be multiples of the page size",
				object, iova, offset, size);
	if (offset > object_size || size > object_size - offset || iova + size - 1 < iova)
		return cpr_fail(cpr, -EINVAL,
				"mapping of %s: 0x%" PRIx64 " bytes from 0x%" PRIx64
				" on are outside of its 0x%" PRIx64,
				object, size, offset, object_size);
	if (!space->group && space->backend == VFIO_CPR_BACKEND_TYPE1)
		space->group = inventory_group(cpr, space->name);
	if (!space->group && space->backend == VFIO_CPR_BACKEND_TYPE1)
		return cpr_fail(cpr, -ENODEV,
				"address space %s has no device yet, and so no IOMMU: "
				"vfio_cpr_device_get() first",
				space->name);
	return 0;
}

int vfio_cpr_dma_map(struct vfio_cpr_space *space, uint64_t iova, struct vfio_cpr_memory *memory,
		     uint64_t offset, uint64_t size, uint32_t prot)
{
	struct vfio_cpr *cpr = space->cpr;
	struct table_slot want;
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = map_check(space, iova, offset, size, prot, memory->size, memory->object->name);
	if (r == 0 && !memory->addr && space->backend == VFIO_CPR_BACKEND_TYPE1)
		r = vfio_cpr_memory_map(memory, NULL);
	if (r < 0)
		return r;
	want = (struct table_slot){
		.iova = iova,
		.size = size,
		.offset = offset,
		.object = memory->object->id,
		.state = TABLE_MAPPING,
		.prot = prot,
	};
	return slot_map(space, &want, memory->addr ? (char *)memory->addr + offset : NULL,
			object_fd(memory->object, 0));
}

int vfio_cpr_dma_map_bar(struct vfio_cpr_space *space, uint64_t iova,
			 struct vfio_cpr_device *device, uint32_t region, uint64_t offset,
			 uint64_t size, uint32_t prot)
{
	struct vfio_cpr *cpr = space->cpr;
	struct table_slot want;
	uint64_t region_size;
	void *addr;
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	if (space->backend == VFIO_CPR_BACKEND_IOMMUFD)
		return cpr_fail(
			cpr, -EOPNOTSUPP,
			"region %u of %s: iommufd cannot hand the mapping of a BAR over; use "
			"the type1 backend for peer-to-peer DMA",
			region, device->object->name);
	r = device_region_map(device, region, &addr, &region_size);
	if (r < 0)
		return cpr_fail(cpr, r, "region %u of %s cannot be mapped: it is no memory BAR",
				region, device->object->name);
	r = map_check(space, iova, offset, size, prot, region_size, device->object->name);
	if (r < 0)
		return r;
	want = (struct table_slot){
		.iova = iova,
		.size = size,
		.offset = offset,
		.object = device->object->id,
		.state = TABLE_MAPPING,
		.prot = prot,
		.region = region,
	};
	return slot_map(space, &want, (char *)addr + offset, -1);
}

/*
 * Unmap
 */

int vfio_cpr_dma_unmap(struct vfio_cpr_space *space, uint64_t iova, uint64_t size)
{
	struct vfio_cpr *cpr = space->cpr;
	enum table_state before;
	uint64_t unmapped = 0;
	int64_t slot;
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	slot = slots_find(space, iova);
	if (slot < 0 || space->table.slots[slot].size != size)
		return cpr_fail(cpr, -ENOENT,
				"address space %s has no mapping of 0x%" PRIx64
				" bytes at iova 0x%" PRIx64,
				space->name, size, iova);

	before = space->table.slots[slot].state;
	table_set_state(&space->table, slot, TABLE_UNMAPPING);
	r = dma_ioctl_unmap(space, iova, size, &unmapped);
	if (r < 0 && r != -ENOENT) {
		table_set_state(&space->table, slot, before);
		return cpr_fail(cpr, r,
				"cannot unmap 0x%" PRIx64 " bytes at iova 0x%" PRIx64
				" of address space %s: %s",
				size, iova, space->name, g_strerror(-r));
	}
	if (slots_is_pending(space, slot))
		space->pending[slot] = 0;
	slots_forget(space, slot);
	if (unmapped != size)
		return cpr_fail(cpr, -ENOENT,
				"the kernel had 0x%" PRIx64 " of 0x%" PRIx64
				" bytes mapped at iova 0x%" PRIx64
				" of address space %s: was it changed around the library?",
				unmapped, size, iova, space->name);
	return 0;
}

int vfio_cpr_dma_for_each(struct vfio_cpr_space *space,
			  int (*fn)(uint64_t iova, uint64_t size, const char *object,
				    uint64_t offset, uint32_t prot, void *userdata),
			  void *userdata)
{
	struct vfio_cpr *cpr = space->cpr;
	int n = 0;
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < table_used(&space->table); i++) {
		struct table_slot slot;
		const struct object *object;

		/* Leaves out intents that are not resolved yet. */
		if (table_read(&space->table, i, &slot) <= 0 || slot.state != TABLE_MAPPED)
			continue;
		object = inventory_find_id(cpr, slot.object);
		r = fn(slot.iova, slot.size, object ? object->name : "", slot.offset, slot.prot,
		       userdata);
		if (r != 0)
			return r;
		n++;
	}
	return n;
}
