/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In place of client/dma-ioctl.c: a kernel that answers as it is told to and keeps what it was asked;
 * and a session of the library on it, with no daemon and one address space.
 */
#ifndef TESTS_UNIT_FAKE_DMA_H
#define TESTS_UNIT_FAKE_DMA_H

#include "client/cpr.h"
#include "client/inventory.h"

struct answers {
	int map, map_file, unmap, set_vaddr, clear_vaddr, change_process; /* 0 or -errno */
	int set_vaddr_again;						  /* after a clear_vaddr */
};

extern struct answers answers;
extern GString *asked; /* "set 1000, unmap 2000": with the iova in hexadecimal */

#define RAM_SIZE 0x100000

/* The session: a handle, "ram" of RAM_SIZE bytes, and what a space is made of but not the space. */
struct fixture {
	struct vfio_cpr *cpr;
	struct vfio_cpr_memory *ram;
	struct vfio_cpr_space *space; /* NULL until fixture_open_space() */
	struct object *table;
};
extern struct fixture fixture;

/* With a table of n_slots, as it was made by this process or (restored) handed back. */
void fixture_make(enum vfio_cpr_backend backend, uint32_t n_slots, bool restored);
void fixture_end(void);

/* Writes a slot of ram, one page at offset 0, before the space is opened; after it, in its face. */
void fixture_write(uint32_t index, uint64_t iova, enum table_state state);
void fixture_write_slot(uint32_t index, const struct table_slot *slot);

/* Loads the table; the result of space_open(). */
int fixture_open_space(void);

#endif
