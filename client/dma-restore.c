/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes the mappings of a dead predecessor this process's own, and finds out what became of the
 * changes it did not live to see. Each step can be repeated: a slot is done when its pending mark
 * is gone, and the table of a process that dies half way is restored in the same way as any other.
 */
#include <errno.h>
#include <inttypes.h>

#include "client/dma.h"
#include "client/inventory.h"
#include "client/slots.h"

/* Where this process has a region of a device, or a memory (region 0). */
struct source {
	uint32_t object; /* 0: nothing yet */
	uint8_t region;
	void *addr;
	uint64_t size;
};

/* Finds what the slot maps. */
static int source_find(struct vfio_cpr_space *space, const struct table_slot *slot,
		       struct source *ret_source)
{
	struct vfio_cpr *cpr = space->cpr;
	struct object *object = inventory_find_id(cpr, slot->object);
	struct source source = {.object = slot->object, .region = slot->region};
	int r = 0;

	if (object && object->kind == OBJECT_MEMORY) {
		struct vfio_cpr_memory *memory;

		r = memory_wrap(cpr, object, &memory);
		if (r == 0)
			r = vfio_cpr_memory_map(memory, &source.addr);
		if (r == 0)
			source.size = memory->size;
	} else if (object && object->kind == OBJECT_DEVICE) {
		r = device_region_map(device_wrap(space, object), slot->region, &source.addr,
				      &source.size);
		if (r < 0)
			cpr_fail(cpr, r, "region %u of %s cannot be mapped any more", slot->region,
				 object->name);
	} else {
		r = cpr_fail(cpr, -EINVAL,
			     "the mapping at iova 0x%" PRIx64
			     " of address space %s is of an object (%u) that the session does not "
			     "have: release the session",
			     slot->iova, space->name, slot->object);
	}
	if (r == 0)
		*ret_source = source;
	return r;
}

/* Where this process has the slot's bytes. Neighbours are of one source, so that is kept. */
static int slot_vaddr(struct vfio_cpr_space *space, const struct table_slot *slot,
		      struct source *source, void **ret_vaddr)
{
	if (source->object == 0 || source->object != slot->object ||
	    source->region != slot->region) {
		int r = source_find(space, slot, source);

		if (r < 0)
			return r;
	}
	if (slot->offset > source->size || slot->size > source->size - slot->offset)
		return cpr_fail(space->cpr, -EINVAL,
				"the mapping at iova 0x%" PRIx64
				" of address space %s is beyond the end of %s: release the session",
				slot->iova, space->name,
				inventory_find_id(space->cpr, slot->object)->name);
	*ret_vaddr = (char *)source->addr + slot->offset;
	return 0;
}

static int fail_restore(struct vfio_cpr_space *space, const struct table_slot *slot, int error)
{
	const char *why = "";

	if (error == -ENOMEM)
		why = ": over RLIMIT_MEMLOCK of this process; raise it and try again, what is restored "
		      "stays so";
	else if (error == -EINVAL)
		why = ": the kernel has it with another length, or its address is still valid; the "
		      "daemon's log tells whether it was invalidated";
	else if (error == -ENOENT)
		why = ": the kernel has no such mapping; was it changed around the library?";
	return cpr_fail(space->cpr, error == -ENOENT ? -EINVAL : error,
			"cannot restore the mapping of 0x%" PRIx64 " bytes at iova 0x%" PRIx64
			" of address space %s: %s%s",
			slot->size, slot->iova, space->name, g_strerror(-error), why);
}

/* Finishes an unmap. ENOENT: the predecessor had lived to do it. */
static int restore_unmapping(struct vfio_cpr_space *space, uint32_t index,
			     const struct table_slot *slot)
{
	uint64_t unmapped;
	int r;

	r = dma_ioctl_unmap(space, slot->iova, slot->size, &unmapped);
	if (r < 0 && r != -ENOENT)
		return fail_restore(space, slot, r);
	slots_forget(space, index);
	return 0;
}

static int restore_type1(struct vfio_cpr_space *space, uint32_t index,
			 const struct table_slot *slot, struct source *source)
{
	void *vaddr = NULL;
	int r;

	r = slot_vaddr(space, slot, source, &vaddr);
	if (r < 0)
		return r;
	r = dma_ioctl_set_vaddr(space, slot, vaddr);
	/*
	 * EINVAL: the address is valid already. In a resumed session this process has given it, for
	 * memory that it may have mapped elsewhere since. So it is cleared and given anew.
	 */
	if (r == -EINVAL && space->cpr->start == VFIO_CPR_START_RESUMED &&
	    dma_ioctl_clear_vaddr(space, slot) == 0)
		r = dma_ioctl_set_vaddr(space, slot, vaddr);
	if (r == -ENOENT && slot->state == TABLE_MAPPING) {
		slots_forget(space, index);
		return 0;
	}
	if (r < 0)
		return fail_restore(space, slot, r);
	if (slot->state != TABLE_MAPPED)
		table_set_state(&space->table, index, TABLE_MAPPED);
	return 0;
}

/*
 * Resolves an intent, the only kind of slot that CHANGE_PROCESS leaves open. iommufd has no call
 * that asks for a mapping, so this maps it again: EEXIST tells that it is there.
 */
static int restore_iommufd(struct vfio_cpr_space *space, uint32_t index,
			   const struct table_slot *slot)
{
	const struct object *object = inventory_find_id(space->cpr, slot->object);
	uint64_t unmapped;
	int r;

	if (!object)
		return fail_restore(space, slot, -EINVAL);
	r = dma_ioctl_map_file(space, slot, object_fd(object, 0));
	if (r == -EEXIST) {
		table_set_state(&space->table, index, TABLE_MAPPED);
		return 0;
	}
	if (r == 0)
		r = dma_ioctl_unmap(space, slot->iova, slot->size, &unmapped);
	else
		r = 0; /* the kernel refuses it now, so it refused it then */
	if (r < 0)
		return fail_restore(space, slot, r);
	slots_forget(space, index);
	return 0;
}

static int restore_slot(struct vfio_cpr_space *space, uint32_t index, struct source *source)
{
	struct table_slot slot;
	int r;

	r = table_read(&space->table, index, &slot);
	if (r < 0)
		return cpr_fail(space->cpr, r,
				"slot %u of the mapping table of address space %s is damaged",
				index, space->name);
	if (r == 0)
		return 0;
	if (slot.state != TABLE_MAPPED && slots_overlap(space, &slot)) {
		slots_forget(space, index);
		return 0;
	}
	if (slot.state == TABLE_UNMAPPING)
		return restore_unmapping(space, index, &slot);
	return space->backend == VFIO_CPR_BACKEND_IOMMUFD
		       ? restore_iommufd(space, index, &slot)
		       : restore_type1(space, index, &slot, source);
}

/* Once for the session's iommufd: it acts on every IOAS. */
static int change_process(struct vfio_cpr_space *space)
{
	struct vfio_cpr *cpr = space->cpr;
	int r;

	if (cpr->process_changed)
		return 0;
	r = dma_ioctl_change_process(space);
	if (r == -ENOMEM)
		return cpr_fail(
			cpr, r,
			"cannot take over the mappings of the iommufd: over RLIMIT_MEMLOCK, "
			"which counts here even with CAP_IPC_LOCK; raise it and try again");
	if (r == -EINVAL)
		return cpr_fail(
			cpr, r,
			"cannot take over the mappings of the iommufd: one of them is not of a "
			"file (IOMMU_IOAS_MAP by address, or a dma-buf), made around the "
			"library");
	if (r < 0)
		return cpr_fail(cpr, r, "cannot take over the mappings of the iommufd: %s",
				g_strerror(-r));
	cpr->process_changed = true;
	return 0;
}

static int restore_pending(struct vfio_cpr_space *space, uint32_t index, struct source *source)
{
	int r = 0;

	if (!space->pending || !space->pending[index])
		return 0;
	/* For what is mapped in an iommufd, CHANGE_PROCESS has done all that there is to do. */
	if (space->backend == VFIO_CPR_BACKEND_TYPE1 ||
	    table_get_state(&space->table, index) != TABLE_MAPPED)
		r = restore_slot(space, index, source);
	if (r == 0)
		space->pending[index] = 0;
	return r;
}

int dma_restore_one(struct vfio_cpr_space *space, uint32_t index)
{
	struct source source = {0};
	int r = 0;

	if (space->backend == VFIO_CPR_BACKEND_IOMMUFD)
		r = change_process(space);
	return r < 0 ? r : restore_pending(space, index, &source);
}

int vfio_cpr_dma_restore(struct vfio_cpr_space *space)
{
	struct source source = {0};
	int r;

	r = cpr_check(space->cpr);
	if (r == 0 && space->pending && space->backend == VFIO_CPR_BACKEND_IOMMUFD)
		r = change_process(space);
	for (uint32_t i = 0; i < space->n_pending && r == 0; i++)
		r = restore_pending(space, i, &source);
	if (r == 0) {
		g_clear_pointer(&space->pending, g_free);
		space->n_pending = 0;
	}
	return r;
}
