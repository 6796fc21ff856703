/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's reader of a table whose owner writes, wipes and punches holes as it likes. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/tableread.h"
#include "tests/unit/suite.h"

#define SLOTS (3 * TABLE_READER_CHUNK)

#define HUGE_PAGES "/proc/sys/vm/nr_hugepages"
#define HUGE_SLOTS 65534 /* with the header just one page of 2 MiB */

static int fd;
static struct table writer;
static struct table_reader reader;

static void setup(void)
{
	fd = table_create(SLOTS);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(table_open(fd, true, &writer), 0);
}

static void teardown(void)
{
	table_close(&writer);
	close(fd);
}

static void map_at(uint32_t index, uint64_t iova)
{
	struct table_slot slot = {
		.iova = iova, .size = 4096, .object = 1, .state = TABLE_MAPPED, .prot = 3};

	table_write(&writer, index, &slot);
}

static blkcnt_t blocks(int file)
{
	struct stat st;

	ck_assert_int_eq(fstat(file, &st), 0);
	return st.st_blocks;
}

/* How many mappings are read on, up to the end. */
static int read_all(void)
{
	struct table_slot slot;
	int n = 0, r;

	while ((r = table_reader_next(&reader, UINT32_MAX, &slot)) > 0)
		n++;
	ck_assert_int_eq(r, 0);
	return n;
}

START_TEST(mappings_are_read_in_order_over_all_pieces_with_their_indices)
{
	static const uint32_t at[] = {0, 7, TABLE_READER_CHUNK - 1, TABLE_READER_CHUNK, SLOTS - 1};
	struct table_slot slot;

	for (size_t i = 0; i < G_N_ELEMENTS(at); i++)
		map_at(at[i], (uint64_t)at[i] << 12);
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	for (size_t i = 0; i < G_N_ELEMENTS(at); i++) {
		ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &slot), 1);
		ck_assert_uint_eq(reader.next - 1, at[i]);
		ck_assert_uint_eq(slot.iova, (uint64_t)at[i] << 12);
		ck_assert_uint_eq(slot.state, TABLE_MAPPED);
	}
	ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &slot), 0);
	ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &slot), 0);
}
END_TEST

START_TEST(reading_begins_and_ends_at_any_slot)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		map_at(i, (uint64_t)i << 12);
	for (uint32_t first = 0; first < SLOTS; first += 1000) {
		struct table_slot slot;
		uint32_t n = 0;

		ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
		reader.next = first;
		while (table_reader_next(&reader, first + 100, &slot) > 0)
			ck_assert_uint_eq(slot.iova, (uint64_t)(first + n++) << 12);
		ck_assert_uint_eq(n, MIN(100, SLOTS - first));
	}
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	reader.next = UINT32_MAX;
	ck_assert_int_eq(read_all(), 0);
}
END_TEST

START_TEST(what_can_be_no_mapping_is_passed_over)
{
	struct table_slot slot = {.iova = 1, .size = 4096, .state = TABLE_MAPPED};

	table_write(&writer, 0, &slot);
	slot = (struct table_slot){.size = 4096, .state = 9};
	table_write(&writer, 1, &slot);
	slot = (struct table_slot){.state = TABLE_MAPPED};
	table_write(&writer, 2, &slot);
	map_at(3, 0);
	table_set_state(&writer, 3, TABLE_FREE);
	map_at(4, 0x1000);
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	ck_assert_int_eq(read_all(), 1);
}
END_TEST

START_TEST(used_beyond_the_slots_is_cut_to_them)
{
	map_at(SLOTS - 1, 0);
	writer.header->used = UINT32_MAX;
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	ck_assert_uint_eq(reader.used, SLOTS);
	ck_assert_int_eq(read_all(), 1);
}
END_TEST

START_TEST(a_header_that_changes_while_it_is_read_moves_no_bound)
{
	map_at(0, 0);
	map_at(SLOTS - 1, 0x1000);
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	memset(writer.header, 0xff, sizeof(*writer.header));
	ck_assert_int_eq(read_all(), 2);
	ck_assert_int_eq(table_reader_begin(&reader, fd), -EINVAL);
}
END_TEST

START_TEST(a_slot_that_changes_after_it_was_checked_is_what_was_checked)
{
	struct table_slot slot;

	map_at(0, 0x1000);
	map_at(1, 0x2000);
	map_at(TABLE_READER_CHUNK, 0x3000);
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &slot), 1);
	/* Of the piece that was copied, and of the next one, which was not. */
	writer.slots[1].size = 1;
	writer.slots[TABLE_READER_CHUNK].size = 1;
	ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &slot), 1);
	ck_assert_uint_eq(slot.size, 4096);
	ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &slot), 0);
}
END_TEST

START_TEST(the_writer_counts_changes_of_slots)
{
	uint64_t before;

	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	ck_assert_uint_eq(reader.changes, 0);
	map_at(0, 0);
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	before = reader.changes;
	ck_assert_uint_gt(before, 0);
	table_set_state(&writer, 0, TABLE_UNMAPPING);
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	ck_assert_uint_gt(reader.changes, before);
	writer.header->changes = UINT64_MAX;
	table_set_state(&writer, 0, TABLE_FREE);
	ck_assert_uint_eq(writer.header->changes, 1);
}
END_TEST

START_TEST(a_sparse_table_is_read_as_free_slots_and_stays_sparse)
{
	int sparse = table_create(TABLE_MAX_SLOTS);
	blkcnt_t before = blocks(sparse);
	uint32_t used = TABLE_MAX_SLOTS;

	ck_assert_int_eq(pwrite(sparse, &used, 4, offsetof(struct table_header, used)), 4);
	ck_assert_int_eq(table_reader_begin(&reader, sparse), 0);
	ck_assert_int_eq(read_all(), 0);
	ck_assert_uint_eq(reader.next, TABLE_MAX_SLOTS);
	ck_assert_int_eq(blocks(sparse), before);
	close(sparse);
}
END_TEST

START_TEST(a_hole_punched_while_it_is_read_is_free_slots)
{
	struct table_slot slot;

	for (uint32_t i = 0; i < SLOTS; i++)
		map_at(i, (uint64_t)i << 12);
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &slot), 1);
	ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   64 + SLOTS * sizeof(slot)),
			 0);
	ck_assert_int_eq(read_all(), TABLE_READER_CHUNK - 1);
	ck_assert_int_eq(table_reader_begin(&reader, fd), -EINVAL);
}
END_TEST

START_TEST(what_cannot_be_read_is_no_table)
{
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
	int write_only = open(path, O_WRONLY | O_CLOEXEC);
	int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(table_reader_begin(&reader, write_only), -EINVAL);
	ck_assert_int_eq(table_reader_begin(&reader, unsealed), -EINVAL);
	ck_assert_int_eq(table_reader_begin(&reader, -1), -EINVAL);
	/* If its end were to be missing all the same: */
	ck_assert_int_eq(table_reader_begin(&reader, fd), 0);
	reader.fd = unsealed;
	reader.used = 1;
	ck_assert_int_eq(table_reader_next(&reader, UINT32_MAX, &(struct table_slot){0}), -EIO);
	close(write_only);
	close(unsealed);
}
END_TEST

static long huge_pages(long set)
{
	FILE *file = fopen(HUGE_PAGES, "r+e");
	long now = -1;

	if (!file)
		return -1;
	if (set >= 0)
		fprintf(file, "%ld", set);
	rewind(file);
	if (fscanf(file, "%ld", &now) != 1)
		now = -1;
	fclose(file);
	return now;
}

/* A table in a huge page, with a mapping; or -1: this host has none. */
static int huge_table(void)
{
	struct table_header header = {TABLE_MAGIC, TABLE_VERSION, 32, HUGE_SLOTS, HUGE_SLOTS, 0,
				      {0}};
	struct table_slot slot = {.size = 4096, .state = TABLE_MAPPED};
	size_t size = 2 * 1024 * 1024;
	int huge =
		memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB);
	void *memory;

	if (huge < 0 || ftruncate(huge, size) < 0)
		return -1;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, huge, 0);
	if (memory == MAP_FAILED)
		return -1;
	memcpy(memory, &header, sizeof(header));
	memcpy((char *)memory + sizeof(header), &slot, sizeof(slot));
	munmap(memory, size);
	ck_assert_int_eq(fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return huge;
}

START_TEST(a_table_of_huge_pages_may_lose_them_while_it_is_read)
{
	long before = huge_pages(-1);
	int huge;

	huge_pages(before + 1);
	huge = huge_table();
	if (huge < 0) {
		suite_skip("no huge page is to be had by " HUGE_PAGES);
	} else {
		ck_assert_int_eq(table_reader_begin(&reader, huge), 0);
		ck_assert_int_eq(read_all(), 1);
		reader.next = 0;
		reader.n = 0;
		ck_assert_int_eq(fallocate(huge, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					   2 * 1024 * 1024),
				 0);
		huge_pages(before); /* none is left to be had by a fault */
		ck_assert_int_eq(read_all(), 0);
		ck_assert_int_eq(blocks(huge), 0);
		ck_assert_int_eq(table_reader_begin(&reader, huge), -EINVAL);
		close(huge);
	}
	huge_pages(before);
}
END_TEST

SUITE("tableread", setup, teardown)
{
	tcase_add_test(tests, mappings_are_read_in_order_over_all_pieces_with_their_indices);
	tcase_add_test(tests, reading_begins_and_ends_at_any_slot);
	tcase_add_test(tests, what_can_be_no_mapping_is_passed_over);
	tcase_add_test(tests, used_beyond_the_slots_is_cut_to_them);
	tcase_add_test(tests, a_header_that_changes_while_it_is_read_moves_no_bound);
	tcase_add_test(tests, a_slot_that_changes_after_it_was_checked_is_what_was_checked);
	tcase_add_test(tests, the_writer_counts_changes_of_slots);
	tcase_add_test(tests, a_sparse_table_is_read_as_free_slots_and_stays_sparse);
	tcase_add_test(tests, a_hole_punched_while_it_is_read_is_free_slots);
	tcase_add_test(tests, what_cannot_be_read_is_no_table);
	tcase_add_test(tests, a_table_of_huge_pages_may_lose_them_while_it_is_read);
}
