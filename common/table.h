/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mapping table: shared memory in which the library records the DMA mappings of one address
 * space. The kernel cannot list them, and a dead VMM cannot tell.
 *
 * One sealed memfd per address space; one writer, the library in the holder. A change writes its
 * intent, does the ioctl, writes the outcome: what dies in between leaves an intent, which the
 * successor resolves by asking the kernel.
 *
 * The library maps it. The daemon never does: whoever has the file can punch holes into it, and an
 * access would make pages for a sparse one in the daemon's name, or end in a SIGBUS if it is of huge
 * pages. daemon/tableread.h copies it by pread(), which finds zeros in a hole.
 */
#ifndef COMMON_TABLE_H
#define COMMON_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_MAGIC	UINT64_C(0x31656c6261742d63) /* "c-table1" in little endian */
#define TABLE_VERSION	1
#define TABLE_MAX_SLOTS (1U << 18)

enum table_state {
	TABLE_FREE = 0,
	TABLE_MAPPED = 1,
	TABLE_MAPPING = 2,   /* intent: the map ioctl may have happened */
	TABLE_UNMAPPING = 3, /* intent: the unmap ioctl may have happened */
};

struct table_slot {
	uint64_t iova;	 /* bytes */
	uint64_t size;	 /* bytes */
	uint64_t offset; /* bytes into the object, or into the region of a device */
	uint32_t object; /* id of the memory or device in the session */
	uint8_t state;	 /* enum table_state; written last */
	uint8_t prot;	 /* VFIO_CPR_DMA_* */
	uint8_t region;	 /* of a device; 0 for memory */
	uint8_t reserved;
};

struct table_header {
	uint64_t magic;
	uint32_t version;
	uint32_t slot_size; /* sizeof(struct table_slot) */
	uint32_t slots;	    /* that the file has room for */
	uint32_t used;	    /* no slot at or after this was ever written */
	uint64_t changes;   /* of slots: the writer counts them. 0: none, or an older library's */
	uint8_t reserved[32];
};

_Static_assert(sizeof(struct table_slot) == 32, "the table is shared between versions");
_Static_assert(sizeof(struct table_header) == 64, "the table is shared between versions");

struct table {
	struct table_header *header;
	struct table_slot *slots;
	uint32_t n_slots; /* checked against the file's size, not read again */
	size_t length;	  /* of the mmap, bytes */
};

/* Makes an empty table of n_slots: a memfd that can neither shrink nor grow. Returns it, or -errno. */
int table_create(uint32_t n_slots);

/*
 * Whether the file is a table: by its seals, size, magic and version. 0, and for how many slots it
 * has room, which no one can change any more; or -EINVAL.
 */
int table_check(int fd, uint32_t *ret_slots);

/* The same, with all of its header as that was read. */
int table_read_header(int fd, struct table_header *ret_header);

/* Whether a copied slot can be a mapping. 1: it can; 0: it is free; -EINVAL, as of table_read(). */
int table_check_slot(const struct table_slot *slot);

/* Maps a table for reading, or for the one writer. -EINVAL: it is none. */
int table_open(int fd, bool writable, struct table *ret_table);
void table_close(struct table *table);

/* How many slots are worth reading: never more than there are. */
uint32_t table_used(const struct table *table);

/*
 * Copies slot index once and checks the copy: -EINVAL if it is no possible mapping (unknown state,
 * size 0, an end beyond 2^64, not multiples of 4096). 0: free, *ret_slot untouched. 1: a mapping.
 */
int table_read(const struct table *table, uint32_t index, struct table_slot *ret_slot);

/* Writes the slot, its state last, so that a successor sees all of it or none. */
void table_write(struct table *table, uint32_t index, const struct table_slot *slot);

/* The state alone, unchecked; and its change. */
static inline uint8_t table_get_state(const struct table *table, uint32_t index)
{
	return __atomic_load_n(&table->slots[index].state, __ATOMIC_ACQUIRE);
}
void table_set_state(struct table *table, uint32_t index, enum table_state state);

#endif
