/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The slots of a space's mapping table, and where each is: by the iova at which its mapping starts,
 * free for the next one, or handed back and to be restored yet. What the kernel has of it is the
 * business of dma.c and dma-restore.c.
 */
#ifndef CLIENT_SLOTS_H
#define CLIENT_SLOTS_H

#include "client/cpr.h"

/* Loads the table of a space that was opened: index, free slots, what is to be restored. */
int slots_load(struct vfio_cpr_space *space);

/* The slot of the mapping (or intent) that starts at iova, or -1. */
int64_t slots_find(const struct vfio_cpr_space *space, uint64_t iova);

/* A slot to write an intent into, or -1: the table is full. It is taken by being written. */
int64_t slots_alloc(struct vfio_cpr_space *space);

/* The intent in the slot has come true: slots_find() finds it as a mapping from now on. */
void slots_mapped(struct vfio_cpr_space *space, uint32_t slot);

/* Free the slot of an intent that is not in the index yet; or any slot, and its place there. */
void slots_free(struct vfio_cpr_space *space, uint32_t slot);
void slots_forget(struct vfio_cpr_space *space, uint32_t slot);

/* Whether the slot was handed back and is not restored yet. */
static inline bool slots_is_pending(const struct vfio_cpr_space *space, int64_t slot)
{
	return slot < (int64_t)space->n_pending && space->pending[slot];
}

/*
 * Whether a mapping that is known overlaps the intent, which then never came true: asking the kernel
 * about it would ask about that mapping. There is at most one intent for each death, so the walk
 * over all slots is rare.
 */
bool slots_overlap(const struct vfio_cpr_space *space, const struct table_slot *intent);

#endif
