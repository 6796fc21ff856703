/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is done to an orphan's address space, against a kernel that answers as the real one does in
 * its worst moments (vfio_dma_do_unmap() with FLAG_VADDR, iommufd_ioas_change_process()).
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "common/table.h"
#include "daemon/kernel.h"
#include "daemon/space.h"
#include "tests/unit/suite.h"

#define CONTAINER 1234
#define IOMMUFD	  4321

/* A kernel with mappings, each valid or not. */
static struct {
	uint64_t iova, size;
	bool invalid;
} dma[8];
static size_t n_dma;
static int calls, result_of_all, result_of_one, result_of_change;
static bool is_old; /* before Linux 6.0: does nothing for another process, and says nothing */

static int fake_unmap_vaddr(int container, bool all, uint64_t iova, uint64_t size,
			    uint64_t *ret_size)
{
	uint64_t done = 0;

	ck_assert_int_eq(container, CONTAINER);
	calls++;
	if (all) {
		ck_assert(iova == 0 && size == 0);
		if (result_of_all)
			return result_of_all;
	} else {
		ck_assert_uint_gt(size, 0);
		if (result_of_one)
			return result_of_one;
	}
	if (is_old) {
		*ret_size = 0;
		return 0;
	}
	for (size_t i = 0; i < n_dma; i++) {
		if (!all && (dma[i].iova < iova || dma[i].iova + dma[i].size > iova + size))
			continue;
		if (dma[i].invalid)
			return -EINVAL; /* and what was done in this call is undone */
	}
	for (size_t i = 0; i < n_dma; i++) {
		if (!all && (dma[i].iova < iova || dma[i].iova + dma[i].size > iova + size))
			continue;
		dma[i].invalid = true;
		done += dma[i].size;
	}
	*ret_size = done;
	return 0;
}

static int fake_change_process(int iommufd)
{
	ck_assert_int_eq(iommufd, IOMMUFD);
	calls++;
	return result_of_change;
}

static const struct kernel_ops fake = {
	.unmap_vaddr = fake_unmap_vaddr,
	.change_process = fake_change_process,
};

static int fd;
static struct table table;
static char *warning;

static void setup(void)
{
	kernel = &fake;
	fd = table_create(16);
	ck_assert_int_eq(table_open(fd, true, &table), 0);
	warning = NULL;
	n_dma = 0;
	calls = result_of_all = result_of_one = result_of_change = 0;
	is_old = false;
}

static void teardown(void)
{
	g_free(warning);
	table_close(&table);
	close(fd);
}

static void in_kernel(uint64_t iova, uint64_t size, bool invalid)
{
	dma[n_dma].iova = iova;
	dma[n_dma].size = size;
	dma[n_dma++].invalid = invalid;
}

static void in_table(uint64_t iova, uint64_t size, enum table_state state)
{
	struct table_slot slot = {.iova = iova, .size = size, .object = 1, .state = state};

	table_write(&table, table_used(&table), &slot);
}

static bool all_invalid(void)
{
	for (size_t i = 0; i < n_dma; i++)
		if (!dma[i].invalid)
			return false;
	return true;
}

START_TEST(all_at_once_with_the_tables_size_is_no_warning)
{
	in_kernel(0, 0x100000, false);
	in_kernel(0x200000, 0x1000, false);
	in_table(0, 0x100000, TABLE_MAPPED);
	in_table(0x200000, 0x1000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_null(warning);
	ck_assert_int_eq(calls, 1);
	ck_assert(all_invalid());
}
END_TEST

START_TEST(an_empty_container_is_no_warning)
{
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_null(warning);
	ck_assert_int_eq(space_invalidate(CONTAINER, -1, &warning), SPACE_SETTLED);
	ck_assert_ptr_null(warning);
}
END_TEST

START_TEST(success_with_size_0_is_an_old_kernel_that_did_nothing)
{
	is_old = true;
	in_kernel(0, 0x1000, false);
	in_table(0, 0x1000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_UNKNOWN);
	ck_assert_ptr_nonnull(warning);
	ck_assert_ptr_nonnull(strstr(warning, "6.0"));
}
END_TEST

START_TEST(a_mixed_state_is_invalidated_mapping_by_mapping)
{
	in_kernel(0, 0x1000, true); /* the successor that died had not come to it yet */
	in_kernel(0x1000, 0x1000, false);
	in_kernel(0x3000, 0x2000, false);
	in_table(0, 0x1000, TABLE_MAPPED);
	in_table(0x1000, 0x1000, TABLE_MAPPED);
	in_table(0x3000, 0x2000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_null(warning);
	ck_assert_int_eq(calls, 4);
	ck_assert(all_invalid());
}
END_TEST

START_TEST(einval_without_a_table_is_told)
{
	in_kernel(0, 0x1000, true);
	ck_assert_int_eq(space_invalidate(CONTAINER, -1, &warning), SPACE_UNKNOWN);
	ck_assert_ptr_nonnull(warning);
}
END_TEST

START_TEST(einval_with_an_empty_table_is_a_container_without_mappings)
{
	/* With no IOMMU set, the ioctl is EINVAL too. */
	result_of_all = -EINVAL;
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_null(warning);
}
END_TEST

START_TEST(a_mapping_of_the_table_that_the_kernel_lacks_is_told)
{
	in_kernel(0, 0x1000, true);
	in_table(0, 0x1000, TABLE_MAPPED);
	in_table(0x8000, 0x1000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_nonnull(strstr(warning, "1 mappings of the table are not in the kernel"));
}
END_TEST

START_TEST(a_failure_of_one_mapping_does_not_end_the_others)
{
	result_of_all = -EINVAL;
	result_of_one = -EIO;
	in_table(0, 0x1000, TABLE_MAPPED);
	in_table(0x1000, 0x1000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_UNKNOWN);
	ck_assert_ptr_nonnull(strstr(warning, "2 mappings could not be invalidated"));
	ck_assert_int_eq(calls, 3);
}
END_TEST

START_TEST(ebusy_is_told_to_be_a_mediated_device)
{
	result_of_all = -EBUSY;
	in_table(0, 0x1000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_UNKNOWN);
	ck_assert_ptr_nonnull(strstr(warning, "mdev"));
	ck_assert_int_eq(calls, 1);
}
END_TEST

START_TEST(another_failure_is_told_by_its_name)
{
	result_of_all = -EIO;
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_UNKNOWN);
	ck_assert_ptr_nonnull(strstr(warning, g_strerror(EIO)));
}
END_TEST

START_TEST(a_size_that_is_not_the_tables_is_told)
{
	in_kernel(0, 0x3000, false);
	in_table(0, 0x1000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_nonnull(strstr(warning, "12288"));
	ck_assert_ptr_nonnull(strstr(warning, "4096"));
}
END_TEST

START_TEST(less_in_the_kernel_than_in_the_table_is_told)
{
	in_kernel(0, 0x1000, false);
	in_table(0, 0x1000, TABLE_MAPPED);
	in_table(0x1000, 0x1000, TABLE_MAPPED);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_nonnull(warning);
}
END_TEST

START_TEST(changes_in_flight_may_be_there_or_not)
{
	in_table(0, 0x1000, TABLE_MAPPED);
	in_table(0x1000, 0x2000, _i & 2 ? TABLE_MAPPING : TABLE_UNMAPPING);
	in_kernel(0, 0x1000, false);
	if (_i & 1)
		in_kernel(0x1000, 0x2000, false);
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_null(warning);
}
END_TEST

START_TEST(changes_in_flight_are_invalidated_one_by_one_too)
{
	in_kernel(0, 0x1000, true);
	in_kernel(0x1000, 0x2000, false);
	in_table(0, 0x1000, TABLE_MAPPED);
	in_table(0x1000, 0x2000, TABLE_MAPPING);
	in_table(0x8000, 0x1000, TABLE_MAPPING); /* never came to be: no warning */
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_ptr_null(warning);
	ck_assert(all_invalid());
}
END_TEST

START_TEST(slots_that_cannot_be_mappings_never_reach_the_kernel)
{
	in_table(1, 0x1000, TABLE_MAPPED);
	in_table(0, 0, TABLE_MAPPED);
	in_table(0x1000, 0x1000, 77);
	in_table(-UINT64_C(0x1000), 0x2000, TABLE_MAPPED);
	result_of_all = -EINVAL;
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning), SPACE_SETTLED);
	ck_assert_int_eq(calls, 1);
}
END_TEST

START_TEST(a_table_that_cannot_be_read_is_told)
{
	uint64_t count, bytes, changes;

	in_kernel(0, 0x1000, _i);
	in_table(0, 0x1000, TABLE_MAPPED);
	table.header->magic = 0;
	ck_assert_int_eq(space_invalidate(CONTAINER, fd, &warning),
			 _i ? SPACE_UNKNOWN : SPACE_SETTLED);
	ck_assert_ptr_nonnull(strstr(warning, "its mapping table cannot be read"));
	ck_assert(all_invalid());
	ck_assert_int_eq(space_count(fd, &count, &bytes, &changes), -EINVAL);
}
END_TEST

static const struct {
	int result;
	enum space_vaddr vaddr;
	const char *hint;
} change_results[] = {
	{0, SPACE_SETTLED, NULL},
	{-ENOMEM, SPACE_UNKNOWN, "LimitMEMLOCK"},
	{-EINVAL, SPACE_UNKNOWN, "IOMMU_IOAS_MAP_FILE"},
	{-ENOTTY, SPACE_UNKNOWN, "IOMMU_IOAS_CHANGE_PROCESS"},
};

START_TEST(change_process_is_called_once_and_its_failure_explained)
{
	result_of_change = change_results[_i].result;
	ck_assert_int_eq(space_disown(IOMMUFD, &warning), change_results[_i].vaddr);
	ck_assert_int_eq(calls, 1);
	if (change_results[_i].hint)
		ck_assert_ptr_nonnull(strstr(warning, change_results[_i].hint));
	else
		ck_assert_ptr_null(warning);
}
END_TEST

START_TEST(mappings_and_bytes_are_counted_with_changes_in_flight)
{
	uint64_t count, bytes, changes;

	in_table(0, 0x1000, TABLE_MAPPED);
	in_table(0x1000, 0x2000, TABLE_MAPPING);
	in_table(0x1000, 0x2000, TABLE_FREE);
	in_table(1, 0x2000, TABLE_MAPPED);
	in_table(0x8000, 0x1000, TABLE_UNMAPPING);
	ck_assert_int_eq(space_count(fd, &count, &bytes, &changes), 0);
	ck_assert_uint_eq(count, 3);
	ck_assert_uint_eq(bytes, 0x4000);
	ck_assert_uint_eq(changes, 5);
}
END_TEST

START_TEST(a_sum_of_hostile_sizes_stays_a_number)
{
	uint64_t count, bytes, changes;

	for (int i = 0; i < 5; i++)
		in_table(0, -UINT64_C(4096), TABLE_MAPPED);
	ck_assert_int_eq(space_count(fd, &count, &bytes, &changes), 0);
	ck_assert_uint_eq(count, 5);
	ck_assert_uint_eq(bytes, INT64_MAX);
}
END_TEST

SUITE("space", setup, teardown)
{
	tcase_add_test(tests, all_at_once_with_the_tables_size_is_no_warning);
	tcase_add_test(tests, an_empty_container_is_no_warning);
	tcase_add_test(tests, success_with_size_0_is_an_old_kernel_that_did_nothing);
	tcase_add_test(tests, a_mixed_state_is_invalidated_mapping_by_mapping);
	tcase_add_test(tests, einval_without_a_table_is_told);
	tcase_add_test(tests, einval_with_an_empty_table_is_a_container_without_mappings);
	tcase_add_test(tests, a_mapping_of_the_table_that_the_kernel_lacks_is_told);
	tcase_add_test(tests, a_failure_of_one_mapping_does_not_end_the_others);
	tcase_add_test(tests, ebusy_is_told_to_be_a_mediated_device);
	tcase_add_test(tests, another_failure_is_told_by_its_name);
	tcase_add_test(tests, a_size_that_is_not_the_tables_is_told);
	tcase_add_test(tests, less_in_the_kernel_than_in_the_table_is_told);
	tcase_add_loop_test(tests, changes_in_flight_may_be_there_or_not, 0, 4);
	tcase_add_test(tests, changes_in_flight_are_invalidated_one_by_one_too);
	tcase_add_test(tests, slots_that_cannot_be_mappings_never_reach_the_kernel);
	tcase_add_loop_test(tests, a_table_that_cannot_be_read_is_told, 0, 2);
	tcase_add_loop_test(tests, change_process_is_called_once_and_its_failure_explained, 0,
			    G_N_ELEMENTS(change_results));
	tcase_add_test(tests, mappings_and_bytes_are_counted_with_changes_in_flight);
	tcase_add_test(tests, a_sum_of_hostile_sizes_stays_a_number);
}
