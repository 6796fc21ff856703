/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The work on an orphan's address spaces: daemon/space.h. Traps of the kernel: vfio_dma_do_unmap(). */
#include "daemon/space.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>

#include "daemon/kernel.h"
#include "daemon/tableread.h"

/*
 * Bytes that the kernel must have, and those that it may have besides (changes in flight): none if
 * there is no table. false: there is one that cannot be read.
 */
static bool table_bytes(int table, uint64_t *ret_sure, uint64_t *ret_maybe)
{
	struct table_reader reader;
	struct table_slot slot;
	int r;

	*ret_sure = *ret_maybe = 0;
	if (table < 0)
		return true;
	r = table_reader_begin(&reader, table);
	while (r >= 0 && (r = table_reader_next(&reader, UINT32_MAX, &slot)) > 0)
		if (slot.state == TABLE_MAPPED)
			*ret_sure += slot.size;
		else
			*ret_maybe += slot.size;
	return r == 0;
}

static enum space_vaddr invalidate_each(int container, int table, char **ret_warning)
{
	uint32_t missing = 0, failed = 0;
	struct table_reader reader;
	struct table_slot slot;
	int error = 0;
	int next = table_reader_begin(&reader, table);

	while (next >= 0 && (next = table_reader_next(&reader, UINT32_MAX, &slot)) > 0) {
		uint64_t done = 0;
		int r;

		r = kernel->unmap_vaddr(container, false, slot.iova, slot.size, &done);
		if (r == -EINVAL)
			continue; /* it was invalid already */
		if (r < 0) {
			failed++;
			error = -r;
		} else if (done != slot.size && slot.state == TABLE_MAPPED) {
			missing++;
		}
	}
	if (next < 0)
		*ret_warning =
			g_strdup_printf("its mapping table cannot be read, so not all mappings "
					"could be invalidated: %s",
					g_strerror(-next));
	else if (failed > 0)
		*ret_warning = g_strdup_printf("%u mappings could not be invalidated: %s", failed,
					       g_strerror(error));
	else if (missing > 0)
		*ret_warning =
			g_strdup_printf("%u mappings of the table are not in the kernel", missing);
	return failed > 0 || next < 0 ? SPACE_UNKNOWN : SPACE_SETTLED;
}

enum space_vaddr space_invalidate(int container, int table, char **ret_warning)
{
	uint64_t sure, maybe, done = 0;
	bool known;
	int r;

	*ret_warning = NULL;
	known = table_bytes(table, &sure, &maybe);
	r = kernel->unmap_vaddr(container, true, 0, 0, &done);
	if (r == -EINVAL && table >= 0)
		/* One was invalid, so all were left as they are. Or there is no IOMMU, and no mapping. */
		return invalidate_each(container, table, ret_warning);
	if (r == -EBUSY) {
		*ret_warning =
			g_strdup("a mediated device (mdev) is in the container: its DMA addresses "
				 "cannot change hands");
		return SPACE_UNKNOWN;
	}
	if (r < 0) {
		*ret_warning = g_strdup_printf("the DMA addresses could not be invalidated: %s",
					       g_strerror(-r));
		return SPACE_UNKNOWN;
	}
	if (done == 0 && sure > 0) {
		*ret_warning =
			g_strdup("the kernel invalidated nothing and said nothing (Linux before "
				 "6.0 does so): a successor cannot restore the DMA addresses");
		return SPACE_UNKNOWN;
	}
	if (!known)
		*ret_warning =
			g_strdup("its mapping table cannot be read: whether the kernel has the "
				 "same mappings is not known");
	else if (done < sure || done > sure + maybe)
		*ret_warning = g_strdup_printf("the kernel had %" PRIu64
					       " bytes mapped, the table has %" PRIu64
					       ": mappings were made or ended without the library",
					       done, sure);
	return SPACE_SETTLED;
}

enum space_vaddr space_disown(int iommufd, char **ret_warning)
{
	int r = kernel->change_process(iommufd);

	*ret_warning = NULL;
	if (r == 0)
		return SPACE_SETTLED;
	if (r == -ENOMEM)
		*ret_warning =
			g_strdup("the daemon's RLIMIT_MEMLOCK is too small for the pinned memory: "
				 "start it with LimitMEMLOCK=infinity. DMA goes on");
	else if (r == -EINVAL)
		*ret_warning = g_strdup(
			"a mapping of the iommufd is not of a file (IOMMU_IOAS_MAP by "
			"pointer): it cannot change hands. Map with IOMMU_IOAS_MAP_FILE only");
	else
		*ret_warning = g_strdup_printf("IOMMU_IOAS_CHANGE_PROCESS: %s", g_strerror(-r));
	return SPACE_UNKNOWN;
}

int space_count(int table, uint64_t *ret_count, uint64_t *ret_bytes, uint64_t *ret_changes)
{
	uint64_t count = 0, bytes = 0;
	struct table_reader reader;
	struct table_slot slot;
	int r = table_reader_begin(&reader, table);

	while (r >= 0 && (r = table_reader_next(&reader, UINT32_MAX, &slot)) > 0) {
		count++;
		/* What is hostile or mistaken may sum up to anything: no more than JSON can tell. */
		bytes += MIN(slot.size, (uint64_t)INT64_MAX - bytes);
	}
	if (r < 0)
		return r;
	*ret_count = count;
	*ret_bytes = bytes;
	*ret_changes = reader.changes;
	return 0;
}
