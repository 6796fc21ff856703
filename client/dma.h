/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What dma.c, dma-restore.c and dma-ioctl.c share: restoring, and the kernel's calls on a slot. */
#ifndef CLIENT_DMA_H
#define CLIENT_DMA_H

#include "client/cpr.h"

/* Restores one pending slot. That of an intent which had not come true is free after it. */
int dma_restore_one(struct vfio_cpr_space *space, uint32_t index);

/* The kernel's calls: 0 or -errno. */
int dma_ioctl_map(struct vfio_cpr_space *space, const struct table_slot *slot, void *vaddr);
int dma_ioctl_map_file(struct vfio_cpr_space *space, const struct table_slot *slot, int fd);
int dma_ioctl_unmap(struct vfio_cpr_space *space, uint64_t iova, uint64_t size,
		    uint64_t *ret_unmapped);
int dma_ioctl_set_vaddr(struct vfio_cpr_space *space, const struct table_slot *slot, void *vaddr);
int dma_ioctl_clear_vaddr(struct vfio_cpr_space *space, const struct table_slot *slot);
int dma_ioctl_change_process(struct vfio_cpr_space *space);

#endif
