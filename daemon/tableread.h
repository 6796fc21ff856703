/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading a mapping table (common/table.h) that its owner can change at any time: by pread(), a
 * bounded piece after the other, each slot checked after it was copied. A hole is zeros, and no page
 * is made for it. For a thread, since a read can wait for a page that is being swapped in.
 *
 * A slot that changes while it is copied may be told half old and half new.
 */
#ifndef DAEMON_TABLEREAD_H
#define DAEMON_TABLEREAD_H

#include "common/table.h"

#define TABLE_READER_CHUNK 2048 /* slots, 64 KiB */

struct table_reader {
	int fd; /* borrowed */
	uint32_t slots, used;
	uint64_t changes;  /* as of before the first slot was read */
	uint32_t next;	   /* slot */
	uint32_t first, n; /* those in the chunk */
	struct table_slot chunk[TABLE_READER_CHUNK];
};

/* Begins at the first slot. -EINVAL: it is no table. -errno: it cannot be read. */
int table_reader_begin(struct table_reader *reader, int fd);

/*
 * The next mapping before slot `end` (UINT32_MAX: all). 1: *ret_slot, of index reader->next - 1.
 * 0: there is none. Else -errno.
 */
int table_reader_next(struct table_reader *reader, uint32_t end, struct table_slot *ret_slot);

#endif
