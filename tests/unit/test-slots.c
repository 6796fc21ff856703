/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The index of a space's slots: what is found, what is free, and what is still to be restored. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "client/slots.h"
#include "tests/unit/fake-dma.h"
#include "tests/unit/suite.h"

#define SLOTS 8

/* Maps one page, as vfio_cpr_dma_map() does around the ioctl. */
static int64_t map(uint64_t iova)
{
	const struct table_slot slot = {
		.iova = iova,
		.size = 0x1000,
		.state = TABLE_MAPPING,
		.prot = VFIO_CPR_DMA_READ,
	};
	int64_t index = slots_alloc(fixture.space);

	if (index < 0)
		return index;
	table_write(&fixture.space->table, index, &slot);
	slots_mapped(fixture.space, index);
	return index;
}

static void open_space(void)
{
	ck_assert_int_eq(fixture_open_space(), 0);
}

static void setup(void)
{
	fixture_make(VFIO_CPR_BACKEND_TYPE1, SLOTS, false);
}

/* For those that look at what a predecessor has left. */
static void setup_restored(void)
{
	fixture_end();
	fixture_make(VFIO_CPR_BACKEND_TYPE1, SLOTS, true);
}

START_TEST(a_mapping_is_found_by_its_start_alone)
{
	/* The last two differ from others in the upper or the lower half of their page number only. */
	static const uint64_t iovas[] = {0, 0x1000, 0xfee00000, 0x100000001000, 0xfffffffffffff000};

	open_space();
	for (size_t i = 0; i < G_N_ELEMENTS(iovas); i++)
		ck_assert_int_eq(map(iovas[i]), i);
	for (size_t i = 0; i < G_N_ELEMENTS(iovas); i++)
		ck_assert_int_eq(slots_find(fixture.space, iovas[i]), i);
	ck_assert_int_eq(slots_find(fixture.space, 0x2000), -1);
	ck_assert_int_eq(slots_find(fixture.space, 0xfee00800), -1);
}
END_TEST

START_TEST(a_full_table_has_no_slot_until_one_is_freed)
{
	open_space();
	for (int64_t i = 0; i < SLOTS; i++)
		ck_assert_int_eq(map(i << 12), i);
	ck_assert_int_eq(slots_alloc(fixture.space), -1);
	slots_forget(fixture.space, 3);
	ck_assert_int_eq(slots_find(fixture.space, 3 << 12), -1);
	ck_assert_int_eq(table_get_state(&fixture.space->table, 3), TABLE_FREE);
	ck_assert_int_eq(map(0x100000), 3);
	ck_assert_int_eq(slots_find(fixture.space, 0x100000), 3);
	ck_assert_int_eq(slots_alloc(fixture.space), -1);
}
END_TEST

START_TEST(a_refused_intent_gives_its_slot_back_and_leaves_the_index_alone)
{
	const struct table_slot intent = {.iova = 0x5000, .size = 0x1000, .state = TABLE_MAPPING};
	int64_t slot;

	open_space();
	map(0x1000);
	slot = slots_alloc(fixture.space);
	table_write(&fixture.space->table, slot, &intent);
	ck_assert_int_eq(slots_find(fixture.space, 0x5000), -1);
	slots_free(fixture.space, slot);
	ck_assert_int_eq(slots_alloc(fixture.space), slot);
	ck_assert_int_eq(slots_find(fixture.space, 0x1000), 0);
}
END_TEST

START_TEST(what_this_process_made_is_indexed_and_not_pending)
{
	fixture_write(0, 0x1000, TABLE_MAPPED);
	fixture_write(2, 0x3000, TABLE_MAPPED);
	open_space();
	ck_assert_int_eq(slots_find(fixture.space, 0x1000), 0);
	ck_assert_int_eq(slots_find(fixture.space, 0x3000), 2);
	ck_assert(!slots_is_pending(fixture.space, 0));
	ck_assert(!slots_is_pending(fixture.space, 2));
}
END_TEST

START_TEST(what_was_handed_back_is_pending_and_gaps_are_filled_first)
{
	setup_restored();
	fixture_write(0, 0x1000, TABLE_MAPPED);
	fixture_write(2, 0x3000, TABLE_UNMAPPING);
	open_space();
	ck_assert(slots_is_pending(fixture.space, 0));
	ck_assert(!slots_is_pending(fixture.space, 1));
	ck_assert(slots_is_pending(fixture.space, 2));
	ck_assert(!slots_is_pending(fixture.space, 3)); /* beyond what is known */
	ck_assert_int_eq(map(0x9000), 1);
	ck_assert_int_eq(map(0xa000), 3);
	ck_assert(!slots_is_pending(fixture.space, 1));
	ck_assert(!slots_is_pending(fixture.space, 3));
}
END_TEST

/* The intent at the mapping's iova stands before it in the table (0), or behind it (1). */
START_TEST(of_a_mapping_and_an_intent_at_one_iova_the_mapping_is_found)
{
	setup_restored();
	fixture_write(_i, 0x1000, TABLE_MAPPED);
	fixture_write(1 - _i, 0x1000, TABLE_MAPPING);
	open_space();
	ck_assert_int_eq(slots_find(fixture.space, 0x1000), _i);
	slots_forget(fixture.space, 1 - _i);
	ck_assert_int_eq(slots_find(fixture.space, 0x1000), _i);
	slots_forget(fixture.space, _i);
	ck_assert_int_eq(slots_find(fixture.space, 0x1000), -1);
}
END_TEST

START_TEST(a_damaged_slot_is_told_and_its_table_not_used)
{
	setup_restored();
	fixture_write(0, 0x1000, TABLE_MAPPED);
	fixture_write(1, 0x2000, TABLE_UNMAPPING + 1);
	ck_assert_int_eq(fixture_open_space(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vfio_cpr_strerror(fixture.cpr), "slot 1 "));
	ck_assert_ptr_null(fixture.space);
}
END_TEST

static const struct {
	uint64_t iova, size;
	bool overlaps;
} intents[] = {
	/* beside [0x10000, 0x20000) and the last page there is */
	{0x0f000, 0x1000, false},
	{0x20000, 0x1000, false},
	{0x0f000, 0x2000, true},
	{0x1f000, 0x2000, true},
	{0x10000, 0x10000, true},
	{0x14000, 0x1000, true},
	{0x08000, 0x20000, true},
	{0xffffffffffffe000, 0x1000, false},
	{0xffffffffffffe000, 0x2000, true},
	{0xfffffffffffff000, 0x1000, true},
};

START_TEST(an_intent_overlaps_a_mapping_that_shares_a_page)
{
	const struct table_slot intent = {.iova = intents[_i].iova, .size = intents[_i].size};

	setup_restored();
	fixture_write_slot(
		0, &(struct table_slot){.iova = 0x10000, .size = 0x10000, .state = TABLE_MAPPED});
	fixture_write_slot(1, &(struct table_slot){.iova = 0xfffffffffffff000,
						   .size = 0x1000,
						   .state = TABLE_MAPPED});
	open_space();
	ck_assert_int_eq(slots_overlap(fixture.space, &intent), intents[_i].overlaps);
}
END_TEST

START_TEST(an_intent_overlaps_no_other_intent)
{
	const struct table_slot intent = {.iova = 0x1000, .size = 0x1000};

	setup_restored();
	fixture_write(0, 0x1000, TABLE_MAPPING);
	fixture_write(1, 0x1000, TABLE_UNMAPPING);
	open_space();
	ck_assert(!slots_overlap(fixture.space, &intent));
}
END_TEST

/* One assertion for many: each costs more than what is tested. */
START_TEST(fifty_thousand_mappings_come_and_go)
{
	const int64_t n = 50000;
	size_t wrong = 0;

	fixture_end();
	fixture_make(VFIO_CPR_BACKEND_TYPE1, 1 << 16, false);
	open_space();
	for (int64_t i = 0; i < n; i++)
		wrong += map(i << 12) != i;
	for (int64_t i = 0; i < n; i += 2)
		slots_forget(fixture.space, i);
	for (int64_t i = 0; i < n; i++)
		wrong += slots_find(fixture.space, i << 12) != (i % 2 ? i : -1);
	/* The new ones take the place of the old: the table does not grow. */
	for (int64_t i = 0; i < n; i += 2)
		wrong += map((i + n) << 12) >= n;
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(table_used(&fixture.space->table), n);
	ck_assert_int_eq(map(0xfffffffffffff000), n);
}
END_TEST

SUITE("slots", setup, fixture_end)
{
	tcase_add_test(tests, a_mapping_is_found_by_its_start_alone);
	tcase_add_test(tests, a_full_table_has_no_slot_until_one_is_freed);
	tcase_add_test(tests, a_refused_intent_gives_its_slot_back_and_leaves_the_index_alone);
	tcase_add_test(tests, what_this_process_made_is_indexed_and_not_pending);
	tcase_add_test(tests, what_was_handed_back_is_pending_and_gaps_are_filled_first);
	tcase_add_loop_test(tests, of_a_mapping_and_an_intent_at_one_iova_the_mapping_is_found, 0,
			    2);
	tcase_add_test(tests, a_damaged_slot_is_told_and_its_table_not_used);
	tcase_add_loop_test(tests, an_intent_overlaps_a_mapping_that_shares_a_page, 0,
			    G_N_ELEMENTS(intents));
	tcase_add_test(tests, an_intent_overlaps_no_other_intent);
	tcase_add_test(tests, fifty_thousand_mappings_come_and_go);
}
