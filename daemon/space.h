/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is done to an address space when its holder has died. DMA goes on throughout: these calls
 * only settle whose addresses and whose locked memory the mappings are. They may take 100 ms, so
 * they run in a worker.
 */
#ifndef DAEMON_SPACE_H
#define DAEMON_SPACE_H

#include <stdint.h>

/* Whose its DMA addresses are, by number in the journal. On the wire: valid, invalid, unknown. */
enum space_vaddr {
	SPACE_OWNED,   /* a process's */
	SPACE_SETTLED, /* nobody's: a successor can give its own */
	SPACE_UNKNOWN, /* the kernel refused, or was not asked */
};

/*
 * type1: invalidates the addresses of every mapping, so that a successor can give its own. First
 * all at once; if one was invalid already (its successor died half way through restoring), mapping
 * by mapping from the table (a descriptor; -1: there is none). *ret_warning (to be g_free()d) tells
 * what is not as it should be, else NULL.
 */
enum space_vaddr space_invalidate(int container, int table, char **ret_warning);

/* iommufd: charges the pinned pages to the daemon in place of the dead process. */
enum space_vaddr space_disown(int iommufd, char **ret_warning);

/*
 * The number and bytes (at most INT64_MAX) of a table's mappings, changes in flight included; and
 * the changes of the table that they are of (common/table.h). For a thread. -errno: no table.
 */
int space_count(int table, uint64_t *ret_count, uint64_t *ret_bytes, uint64_t *ret_changes);

#endif
