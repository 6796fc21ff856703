/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mapping table, from its writer's side and from that of a reader who trusts nothing. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/table.h"
#include "tests/unit/suite.h"

#define SLOTS 16

static int fd;
static struct table writer, reader;

static void setup(void)
{
	fd = table_create(SLOTS);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(table_open(fd, true, &writer), 0);
	ck_assert_int_eq(table_open(fd, false, &reader), 0);
}

static void teardown(void)
{
	table_close(&writer);
	table_close(&reader);
	close(fd);
}

static struct table_slot slot_at(uint64_t iova, uint64_t size)
{
	return (struct table_slot){
		.iova = iova, .size = size, .object = 1, .state = TABLE_MAPPED, .prot = 3};
}

START_TEST(a_new_table_is_empty_and_sealed)
{
	struct stat st;

	ck_assert_uint_eq(table_used(&reader), 0);
	ck_assert_uint_eq(reader.n_slots, SLOTS);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 64 + 32 * SLOTS);
	ck_assert_int_lt(ftruncate(fd, 64), 0);
	ck_assert_int_lt(ftruncate(fd, 1 << 20), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
}
END_TEST

START_TEST(tables_have_1_to_262144_slots)
{
	struct table table;
	int big = table_create(TABLE_MAX_SLOTS);

	ck_assert_int_eq(table_create(0), -EINVAL);
	ck_assert_int_eq(table_create(TABLE_MAX_SLOTS + 1), -EINVAL);
	ck_assert_int_ge(big, 0);
	ck_assert_int_eq(table_open(big, false, &table), 0);
	ck_assert_uint_eq(table.n_slots, TABLE_MAX_SLOTS);
	table_close(&table);
	close(big);
}
END_TEST

START_TEST(what_is_written_is_read)
{
	struct table_slot slot = {0x1000, 0x2000, 0x3000, 77, TABLE_MAPPING, 1, 2, 0}, back;

	table_write(&writer, 5, &slot);
	ck_assert_uint_eq(table_used(&reader), 6);
	ck_assert_int_eq(table_read(&reader, 5, &back), 1);
	ck_assert_mem_eq(&back, &slot, sizeof(slot));
	ck_assert_int_eq(table_read(&reader, 4, &back), 0);
	table_set_state(&writer, 5, TABLE_MAPPED);
	ck_assert_int_eq(table_read(&reader, 5, &back), 1);
	ck_assert_int_eq(back.state, TABLE_MAPPED);
	table_set_state(&writer, 5, TABLE_FREE);
	ck_assert_int_eq(table_read(&reader, 5, &back), 0);
	/* used never goes back. */
	table_write(&writer, 0, &slot);
	ck_assert_uint_eq(table_used(&reader), 6);
}
END_TEST

START_TEST(a_free_slot_leaves_the_output_alone)
{
	struct table_slot back, before;

	memset(&back, 0xa5, sizeof(back));
	before = back;
	ck_assert_int_eq(table_read(&reader, 0, &back), 0);
	ck_assert_int_eq(table_read(&reader, SLOTS, &back), -EINVAL);
	ck_assert_int_eq(table_read(&reader, UINT32_MAX, &back), -EINVAL);
	ck_assert_mem_eq(&back, &before, sizeof(back));
}
END_TEST

static const struct {
	uint64_t iova, size, offset;
	uint8_t state;
	int result;
} slots[] = {
	{0, 4096, 0, TABLE_MAPPED, 1},
	{0, 4096, 0, TABLE_MAPPING, 1},
	{0, 4096, 0, TABLE_UNMAPPING, 1},
	{0, 4096, 0, 4, -EINVAL},
	{0, 4096, 0, 255, -EINVAL},
	{0, 0, 0, TABLE_MAPPED, -EINVAL},
	{1, 4096, 0, TABLE_MAPPED, -EINVAL},
	{0, 4097, 0, TABLE_MAPPED, -EINVAL},
	{0, 4096, 2048, TABLE_MAPPED, -EINVAL},
	{-UINT64_C(4096), 4096, 0, TABLE_MAPPED, 1},	   /* ends at 2^64 */
	{-UINT64_C(4096), 8192, 0, TABLE_MAPPED, -EINVAL}, /* beyond it */
	{4096, -UINT64_C(4096), 0, TABLE_MAPPED, 1},	   /* ends at 2^64 */
	{8192, -UINT64_C(4096), 0, TABLE_MAPPED, -EINVAL}, /* beyond it */
	{0, 4096, -UINT64_C(4096), TABLE_MAPPED, 1},	   /* offsets are its owner's affair */
};

START_TEST(a_slot_is_read_only_if_it_can_be_a_mapping)
{
	struct table_slot slot = slot_at(slots[_i].iova, slots[_i].size), back;

	slot.offset = slots[_i].offset;
	slot.state = slots[_i].state;
	table_write(&writer, 3, &slot);
	ck_assert_int_eq(table_read(&reader, 3, &back), slots[_i].result);
}
END_TEST

START_TEST(used_beyond_the_slots_is_cut_to_them)
{
	writer.header->used = UINT32_MAX;
	ck_assert_uint_eq(table_used(&reader), SLOTS);
}
END_TEST

START_TEST(a_header_that_changes_after_opening_moves_no_bound)
{
	struct table_slot back;

	writer.header->slots = UINT32_MAX;
	writer.header->used = UINT32_MAX;
	writer.header->slot_size = 1;
	ck_assert_uint_eq(table_used(&reader), SLOTS);
	ck_assert_int_eq(table_read(&reader, SLOTS, &back), -EINVAL);
}
END_TEST

/* A file with a header that lies; seals as given. */
static int lie(struct table_header header, off_t size, int seals)
{
	int file = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(ftruncate(file, size), 0);
	ck_assert_int_ge(pwrite(file, &header, MIN(size, (off_t)sizeof(header)), 0), 0);
	ck_assert_int_eq(ftruncate(file, size), 0);
	ck_assert_int_eq(fcntl(file, F_ADD_SEALS, seals), 0);
	return file;
}

START_TEST(a_file_that_lies_is_no_table)
{
	const struct table_header good = {
		.magic = TABLE_MAGIC, .version = TABLE_VERSION, .slot_size = 32, .slots = 4};
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
	struct {
		struct table_header header;
		off_t size;
		int seals, result;
	} lies[] = {
		{good, 64 + 4 * 32, seals, 0},
		{good, 64 + 4 * 32 - 1, seals, -EINVAL},
		{good, 64 + 4 * 32 + 1, seals, -EINVAL},
		{good, 64, seals, -EINVAL},
		{good, 63, seals, -EINVAL},
		{good, 0, seals, -EINVAL},
		{good, 64 + 4 * 32, F_SEAL_SHRINK, -EINVAL},
		{good, 64 + 4 * 32, F_SEAL_GROW, -EINVAL},
		{good, 64 + 4 * 32, 0, -EINVAL},
		{good, 64 + 4 * 32, seals, -EINVAL},
		{good, 64 + 4 * 32, seals, -EINVAL},
		{good, 64 + 4 * 32, seals, -EINVAL},
		{good, 64, seals, -EINVAL},
		{good, 64 + 4 * 32, seals, -EINVAL},
	};

	lies[9].header.magic++;
	lies[10].header.version++;
	lies[11].header.slot_size = 64;
	lies[12].header.slots = 0;
	lies[13].header.slots = UINT32_MAX;
	for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
		struct table table = {0};
		int file = lie(lies[i].header, lies[i].size, lies[i].seals);

		ck_assert_msg(table_open(file, false, &table) == lies[i].result, "lie %zu", i);
		table_close(&table);
		close(file);
	}
}
END_TEST

START_TEST(what_is_no_memfd_is_no_table)
{
	struct table table;
	int file = open("/dev/null", O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(table_open(file, false, &table), -EINVAL);
	ck_assert_int_eq(table_open(-1, false, &table), -EINVAL);
	close(file);
}
END_TEST

START_TEST(closing_a_table_twice_does_no_harm)
{
	struct table table;

	ck_assert_int_eq(table_open(fd, false, &table), 0);
	table_close(&table);
	table_close(&table);
}
END_TEST

SUITE("table", setup, teardown)
{
	tcase_add_test(tests, a_new_table_is_empty_and_sealed);
	tcase_add_test(tests, tables_have_1_to_262144_slots);
	tcase_add_test(tests, what_is_written_is_read);
	tcase_add_test(tests, a_free_slot_leaves_the_output_alone);
	tcase_add_loop_test(tests, a_slot_is_read_only_if_it_can_be_a_mapping, 0,
			    G_N_ELEMENTS(slots));
	tcase_add_test(tests, used_beyond_the_slots_is_cut_to_them);
	tcase_add_test(tests, a_header_that_changes_after_opening_moves_no_bound);
	tcase_add_test(tests, a_file_that_lies_is_no_table);
	tcase_add_test(tests, what_is_no_memfd_is_no_table);
	tcase_add_test(tests, closing_a_table_twice_does_no_harm);
}
