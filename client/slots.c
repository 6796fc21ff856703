/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The index of a space's slots: client/slots.h. */
#include "client/slots.h"

#include "client/inventory.h"

static guint iova_hash(gconstpointer key)
{
	uint64_t page = (uint64_t)(uintptr_t)key >> 12;

	/* Neighbours are mapped one after the other, and stay neighbours in memory too. */
	return (guint)(page ^ page >> 32);
}

static gpointer iova_key(uint64_t iova)
{
	_Static_assert(sizeof(uintptr_t) == sizeof(uint64_t), "an iova is the key itself");
	return (gpointer)(uintptr_t)iova;
}

static void index_add(struct vfio_cpr_space *space, uint64_t iova, uint32_t slot)
{
	g_hash_table_insert(space->slots, iova_key(iova), GUINT_TO_POINTER(slot + 1));
}

int64_t slots_find(const struct vfio_cpr_space *space, uint64_t iova)
{
	return (int64_t)GPOINTER_TO_UINT(g_hash_table_lookup(space->slots, iova_key(iova))) - 1;
}

int64_t slots_alloc(struct vfio_cpr_space *space)
{
	uint32_t used;

	if (space->free_slots->len > 0) {
		uint32_t slot =
			g_array_index(space->free_slots, uint32_t, space->free_slots->len - 1);

		g_array_set_size(space->free_slots, space->free_slots->len - 1);
		return slot;
	}
	used = table_used(&space->table);
	return used < space->table.n_slots ? (int64_t)used : -1;
}

void slots_mapped(struct vfio_cpr_space *space, uint32_t slot)
{
	table_set_state(&space->table, slot, TABLE_MAPPED);
	index_add(space, space->table.slots[slot].iova, slot);
}

void slots_free(struct vfio_cpr_space *space, uint32_t slot)
{
	table_set_state(&space->table, slot, TABLE_FREE);
	g_array_append_val(space->free_slots, slot);
}

void slots_forget(struct vfio_cpr_space *space, uint32_t slot)
{
	uint64_t iova = space->table.slots[slot].iova;

	/* If this is an intent, the index may have another slot at that iova, which is mapped. */
	if (slots_find(space, iova) == slot)
		g_hash_table_remove(space->slots, iova_key(iova));
	slots_free(space, slot);
}

int slots_load(struct vfio_cpr_space *space)
{
	bool restored = space->table_object->restored;
	uint32_t used = table_used(&space->table);

	space->slots = g_hash_table_new(iova_hash, NULL);
	space->free_slots = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	if (restored && used > 0) {
		space->pending = g_malloc0(used);
		space->n_pending = used;
	}
	for (uint32_t i = 0; i < used; i++) {
		struct table_slot slot;
		int r = table_read(&space->table, i, &slot);

		if (r < 0)
			return cpr_fail(
				space->cpr, r,
				"slot %u of the mapping table of address space %s is damaged", i,
				space->name);
		if (r == 0) {
			g_array_append_val(space->free_slots, i);
			continue;
		}
		/* An intent at the iova of a mapping is not indexed; restoring frees its slot. */
		if (slot.state == TABLE_MAPPED || slots_find(space, slot.iova) < 0)
			index_add(space, slot.iova, i);
		if (restored)
			space->pending[i] = 1;
	}
	return 0;
}

bool slots_overlap(const struct vfio_cpr_space *space, const struct table_slot *intent)
{
	for (uint32_t i = 0; i < table_used(&space->table); i++) {
		struct table_slot slot;

		if (table_read(&space->table, i, &slot) > 0 && slot.state == TABLE_MAPPED &&
		    slot.iova <= intent->iova + intent->size - 1 &&
		    intent->iova <= slot.iova + slot.size - 1)
			return true;
	}
	return false;
}
