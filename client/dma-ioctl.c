/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel's calls on mappings, of both backends: no policy, no sentences. */
#include <errno.h>
#include <sys/ioctl.h>

#include "client/dma.h"
#include "client/inventory.h"
#include "common/uapi.h"

int dma_ioctl_map(struct vfio_cpr_space *space, const struct table_slot *slot, void *vaddr)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = (slot->prot & VFIO_CPR_DMA_READ ? VFIO_DMA_MAP_FLAG_READ : 0) |
			 (slot->prot & VFIO_CPR_DMA_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0),
		.vaddr = (uintptr_t)vaddr,
		.iova = slot->iova,
		.size = slot->size,
	};

	return ioctl(object_fd(space->context, 0), VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

/* By file, never by pointer: one mapping by pointer makes CHANGE_PROCESS fail for ever. */
int dma_ioctl_map_file(struct vfio_cpr_space *space, const struct table_slot *slot, int fd)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA |
			 (slot->prot & VFIO_CPR_DMA_READ ? IOMMU_IOAS_MAP_READABLE : 0) |
			 (slot->prot & VFIO_CPR_DMA_WRITE ? IOMMU_IOAS_MAP_WRITEABLE : 0),
		.ioas_id = space->table_object->attributes.ioas_id,
		.fd = fd,
		.start = slot->offset,
		.length = slot->size,
		.iova = slot->iova,
	};

	return ioctl(object_fd(space->context, 0), IOMMU_IOAS_MAP_FILE, &map) < 0 ? -errno : 0;
}

int dma_ioctl_unmap(struct vfio_cpr_space *space, uint64_t iova, uint64_t size,
		    uint64_t *ret_unmapped)
{
	if (space->backend == VFIO_CPR_BACKEND_IOMMUFD) {
		struct iommu_ioas_unmap unmap = {
			.size = sizeof(unmap),
			.ioas_id = space->table_object->attributes.ioas_id,
			.iova = iova,
			.length = size,
		};

		if (ioctl(object_fd(space->context, 0), IOMMU_IOAS_UNMAP, &unmap) < 0)
			return -errno;
		*ret_unmapped = unmap.length;
	} else {
		struct vfio_iommu_type1_dma_unmap unmap = {
			.argsz = sizeof(unmap),
			.iova = iova,
			.size = size,
		};

		if (ioctl(object_fd(space->context, 0), VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
			return -errno;
		*ret_unmapped = unmap.size;
	}
	return 0;
}

/* VADDR alone: with a READ or WRITE flag beside it the kernel says EINVAL. */
int dma_ioctl_set_vaddr(struct vfio_cpr_space *space, const struct table_slot *slot, void *vaddr)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_VADDR,
		.vaddr = (uintptr_t)vaddr,
		.iova = slot->iova,
		.size = slot->size,
	};

	return ioctl(object_fd(space->context, 0), VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

int dma_ioctl_clear_vaddr(struct vfio_cpr_space *space, const struct table_slot *slot)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = VFIO_DMA_UNMAP_FLAG_VADDR,
		.iova = slot->iova,
		.size = slot->size,
	};

	if (ioctl(object_fd(space->context, 0), VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
		return -errno;
	/* Success with another size means that nothing was done. */
	return unmap.size == slot->size ? 0 : -EINVAL;
}

int dma_ioctl_change_process(struct vfio_cpr_space *space)
{
	struct iommu_ioas_change_process change = {.size = sizeof(change)};

	return ioctl(object_fd(space->context, 0), IOMMU_IOAS_CHANGE_PROCESS, &change) < 0 ? -errno
											   : 0;
}
