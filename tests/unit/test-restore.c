/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Restoring: what the kernel is asked about each slot that was handed back, and what becomes of the
 * slot with each of its answers. The kernel is tests/unit/fake-dma.c.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "client/slots.h"
#include "tests/unit/fake-dma.h"
#include "tests/unit/suite.h"

#define SLOTS	8
#define TYPE1	VFIO_CPR_BACKEND_TYPE1
#define IOMMUFD VFIO_CPR_BACKEND_IOMMUFD

static void setup(void)
{
	fixture_make(TYPE1, SLOTS, true);
}

static void use_iommufd(void)
{
	fixture_end();
	fixture_make(IOMMUFD, SLOTS, true);
}

static void open_space(void)
{
	ck_assert_int_eq(fixture_open_space(), 0);
}

static enum table_state state_of(uint32_t slot)
{
	return table_get_state(&fixture.space->table, slot);
}

static void ck_assert_asked(const char *expected)
{
	ck_assert_str_eq(asked->str, expected);
	g_string_truncate(asked, 0);
}

/*
 * One slot
 */

#define CLAIMED VFIO_CPR_START_CLAIMED
#define RESUMED VFIO_CPR_START_RESUMED

#define FREE	  TABLE_FREE
#define MAPPED	  TABLE_MAPPED
#define MAPPING	  TABLE_MAPPING
#define UNMAPPING TABLE_UNMAPPING

/* Of one slot at iova 2000. On success it is not pending any more, on failure all is as before. */
static const struct {
	enum vfio_cpr_backend backend;
	enum table_state state;
	enum vfio_cpr_start start;
	struct answers answers;
	int result;
	enum table_state after;
	const char *asked;
} restores[] = {
	/* type1: a new address for what is mapped */
	{TYPE1, MAPPED, CLAIMED, {0}, 0, MAPPED, "set 2000"},
	{TYPE1, MAPPED, RESUMED, {0}, 0, MAPPED, "set 2000"},
	{TYPE1, MAPPED, CLAIMED, {.set_vaddr = -ENOENT}, -EINVAL, MAPPED, "set 2000"},
	{TYPE1, MAPPED, CLAIMED, {.set_vaddr = -ENOMEM}, -ENOMEM, MAPPED, "set 2000"},
	/* still valid: not this process's to take back, unless it is the one that had it */
	{TYPE1, MAPPED, CLAIMED, {.set_vaddr = -EINVAL}, -EINVAL, MAPPED, "set 2000"},
	{TYPE1,
	 MAPPED,
	 RESUMED,
	 {.set_vaddr = -EINVAL},
	 0,
	 MAPPED,
	 "set 2000, clear 2000, set 2000"},
	{TYPE1,
	 MAPPED,
	 RESUMED,
	 {.set_vaddr = -EINVAL, .clear_vaddr = -EINVAL},
	 -EINVAL,
	 MAPPED,
	 "set 2000, clear 2000"},
	{TYPE1,
	 MAPPED,
	 RESUMED,
	 {.set_vaddr = -EINVAL, .set_vaddr_again = -ENOMEM},
	 -ENOMEM,
	 MAPPED,
	 "set 2000, clear 2000, set 2000"},
	/* type1: the intent of a map came true, or never did */
	{TYPE1, MAPPING, CLAIMED, {0}, 0, MAPPED, "set 2000"},
	{TYPE1, MAPPING, CLAIMED, {.set_vaddr = -ENOENT}, 0, FREE, "set 2000"},
	{TYPE1,
	 MAPPING,
	 RESUMED,
	 {.set_vaddr = -EINVAL, .set_vaddr_again = -ENOENT},
	 0,
	 FREE,
	 "set 2000, clear 2000, set 2000"},
	{TYPE1, MAPPING, CLAIMED, {.set_vaddr = -EINVAL}, -EINVAL, MAPPING, "set 2000"},
	{TYPE1, MAPPING, CLAIMED, {.set_vaddr = -ENOMEM}, -ENOMEM, MAPPING, "set 2000"},
	/* type1: an unmap is finished, or was already */
	{TYPE1, UNMAPPING, CLAIMED, {0}, 0, FREE, "unmap 2000"},
	{TYPE1, UNMAPPING, CLAIMED, {.unmap = -ENOENT}, 0, FREE, "unmap 2000"},
	{TYPE1, UNMAPPING, CLAIMED, {.unmap = -EINVAL}, -EINVAL, UNMAPPING, "unmap 2000"},
	{TYPE1, UNMAPPING, CLAIMED, {.unmap = -EBUSY}, -EBUSY, UNMAPPING, "unmap 2000"},
	/* iommufd: what is mapped changes hands all at once */
	{IOMMUFD, MAPPED, CLAIMED, {0}, 0, MAPPED, "change"},
	{IOMMUFD, MAPPED, CLAIMED, {.change_process = -ENOMEM}, -ENOMEM, MAPPED, "change"},
	{IOMMUFD, MAPPED, CLAIMED, {.change_process = -EINVAL}, -EINVAL, MAPPED, "change"},
	{IOMMUFD, MAPPING, CLAIMED, {.change_process = -ENOTTY}, -ENOTTY, MAPPING, "change"},
	/* iommufd: whether a map came true tells the attempt to do it again */
	{IOMMUFD, MAPPING, CLAIMED, {.map_file = -EEXIST}, 0, MAPPED, "change, map-file 2000"},
	{IOMMUFD, MAPPING, CLAIMED, {0}, 0, FREE, "change, map-file 2000, unmap 2000"},
	{IOMMUFD,
	 MAPPING,
	 CLAIMED,
	 {.unmap = -EBUSY},
	 -EBUSY,
	 MAPPING,
	 "change, map-file 2000, unmap 2000"},
	{IOMMUFD, MAPPING, CLAIMED, {.map_file = -EINVAL}, 0, FREE, "change, map-file 2000"},
	{IOMMUFD, MAPPING, CLAIMED, {.map_file = -ENOMEM}, 0, FREE, "change, map-file 2000"},
	/* iommufd: an unmap is finished, or was already */
	{IOMMUFD, UNMAPPING, CLAIMED, {0}, 0, FREE, "change, unmap 2000"},
	{IOMMUFD, UNMAPPING, CLAIMED, {.unmap = -ENOENT}, 0, FREE, "change, unmap 2000"},
	{IOMMUFD, UNMAPPING, CLAIMED, {.unmap = -EINVAL}, -EINVAL, UNMAPPING, "change, unmap 2000"},
};

START_TEST(a_slot_is_what_the_kernel_says_of_it)
{
	if (restores[_i].backend == IOMMUFD)
		use_iommufd();
	fixture.cpr->start = restores[_i].start;
	answers = restores[_i].answers;
	fixture_write(0, 0x2000, restores[_i].state);
	open_space();

	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), restores[_i].result);
	ck_assert_asked(restores[_i].asked);
	ck_assert_int_eq(state_of(0), restores[_i].after);
	ck_assert_int_eq(slots_find(fixture.space, 0x2000),
			 restores[_i].after == TABLE_FREE ? -1 : 0);
	ck_assert_int_eq(slots_is_pending(fixture.space, 0), restores[_i].result < 0);
}
END_TEST

/* However it failed: once the kernel relents, all is restored; and what is restored stays so. */
START_TEST(a_failed_restore_can_be_repeated_and_a_done_one_asks_nothing)
{
	if (restores[_i].backend == IOMMUFD)
		use_iommufd();
	fixture.cpr->start = restores[_i].start;
	answers = restores[_i].answers;
	fixture_write(0, 0x2000, restores[_i].state);
	open_space();

	(void)vfio_cpr_dma_restore(fixture.space);
	answers = (struct answers){0};
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert(!slots_is_pending(fixture.space, 0));
	g_string_truncate(asked, 0);
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert_asked("");
}
END_TEST

/*
 * Several slots
 */

START_TEST(who_dies_half_way_leaves_the_rest_to_be_restored)
{
	fixture_write(0, 0x1000, TABLE_MAPPED);
	fixture_write(1, 0x2000, TABLE_UNMAPPING);
	fixture_write(2, 0x3000, TABLE_MAPPED);
	open_space();
	answers.unmap = -EBUSY;
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), -EBUSY);
	ck_assert_asked("set 1000, unmap 2000");
	answers.unmap = 0;
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert_asked("unmap 2000, set 3000");
}
END_TEST

START_TEST(the_process_is_changed_once_for_all_that_is_mapped)
{
	use_iommufd();
	for (uint32_t i = 0; i < SLOTS; i++)
		fixture_write(i, (i + 1) << 12, i == 5 ? TABLE_MAPPING : TABLE_MAPPED);
	open_space();
	answers.map_file = -EEXIST;
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert_asked("change, map-file 6000");
}
END_TEST

START_TEST(the_process_is_changed_until_that_succeeds_and_not_again)
{
	use_iommufd();
	fixture_write(0, 0x1000, TABLE_MAPPING);
	open_space();
	answers = (struct answers){.change_process = -ENOMEM, .unmap = -EBUSY};
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), -ENOMEM);
	ck_assert_asked("change");
	answers.change_process = 0;
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), -EBUSY);
	ck_assert_asked("change, map-file 1000, unmap 1000");
	answers.unmap = 0;
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert_asked("map-file 1000, unmap 1000");
}
END_TEST

/* Asking the kernel about such an intent would ask about the mapping, and an unmap undo it. */
static const enum table_state intents[] = {TABLE_MAPPING, TABLE_UNMAPPING};

START_TEST(an_intent_over_a_mapping_is_dropped_unasked)
{
	fixture_write(0, 0x1000, intents[_i]);
	fixture_write(1, 0x1000, TABLE_MAPPED);
	open_space();
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert_asked("set 1000");
	ck_assert_int_eq(state_of(0), TABLE_FREE);
	ck_assert_int_eq(slots_find(fixture.space, 0x1000), 1);
}
END_TEST

START_TEST(what_this_process_mapped_needs_no_restoring)
{
	fixture_end();
	fixture_make(TYPE1, SLOTS, false);
	open_space();
	ck_assert_int_eq(vfio_cpr_dma_map(fixture.space, 0x1000, fixture.ram, 0, 0x1000, 1), 0);
	ck_assert_asked("map 1000");
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert_asked("");
}
END_TEST

/*
 * What the table says is not trusted
 */

/* One page at 2000, but: of which object, from where, and how long. */
static const struct {
	uint32_t object; /* added to the id of ram */
	uint64_t offset, size;
	const char *sentence;
} lies[] = {
	{77, 0, 0x1000, "is of an object"},
	{0, RAM_SIZE, 0x1000, "beyond the end of ram"},
	{0, RAM_SIZE - 0x1000, 0x2000, "beyond the end of ram"},
	{0, 0xfffffffffffff000, 0x1000, "beyond the end of ram"},
	{0, 0, RAM_SIZE + 0x1000, "beyond the end of ram"},
	{1, 0, 0x1000, "is of an object"}, /* the table itself is nothing to map */
};

START_TEST(an_address_is_given_for_bytes_of_the_session_only)
{
	fixture_write_slot(0, &(struct table_slot){
				      .iova = 0x2000,
				      .size = lies[_i].size,
				      .offset = lies[_i].offset,
				      .object = fixture.ram->object->id + lies[_i].object,
				      .state = TABLE_MAPPED,
				      .prot = VFIO_CPR_DMA_READ,
			      });
	open_space();
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vfio_cpr_strerror(fixture.cpr), lies[_i].sentence));
	ck_assert_asked("");
}
END_TEST

START_TEST(a_slot_damaged_after_loading_is_told_and_nothing_asked)
{
	fixture_write(0, 0x2000, TABLE_MAPPED);
	open_space();
	fixture_write(0, 0x2001, TABLE_MAPPED);
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vfio_cpr_strerror(fixture.cpr), "slot 0 "));
	ck_assert_asked("");
}
END_TEST

START_TEST(a_neighbour_of_another_offset_gets_its_own_address)
{
	const uint32_t ram = fixture.ram->object->id;

	/* The fake compares each address with that of the slot's bytes. */
	for (uint32_t i = 0; i < 3; i++)
		fixture_write_slot(i, &(struct table_slot){
					      .iova = 0x1000 + i * 0x1000,
					      .size = 0x1000,
					      .offset = 0x8000 - i * 0x2000,
					      .object = ram,
					      .state = TABLE_MAPPED,
				      });
	open_space();
	ck_assert_int_eq(vfio_cpr_dma_restore(fixture.space), 0);
	ck_assert_asked("set 1000, set 2000, set 3000");
}
END_TEST

SUITE("restore", setup, fixture_end)
{
	tcase_add_loop_test(tests, a_slot_is_what_the_kernel_says_of_it, 0, G_N_ELEMENTS(restores));
	tcase_add_loop_test(tests, a_failed_restore_can_be_repeated_and_a_done_one_asks_nothing, 0,
			    G_N_ELEMENTS(restores));
	tcase_add_test(tests, who_dies_half_way_leaves_the_rest_to_be_restored);
	tcase_add_test(tests, the_process_is_changed_once_for_all_that_is_mapped);
	tcase_add_test(tests, the_process_is_changed_until_that_succeeds_and_not_again);
	tcase_add_loop_test(tests, an_intent_over_a_mapping_is_dropped_unasked, 0,
			    G_N_ELEMENTS(intents));
	tcase_add_test(tests, what_this_process_mapped_needs_no_restoring);
	tcase_add_loop_test(tests, an_address_is_given_for_bytes_of_the_session_only, 0,
			    G_N_ELEMENTS(lies));
	tcase_add_test(tests, a_slot_damaged_after_loading_is_told_and_nothing_asked);
	tcase_add_test(tests, a_neighbour_of_another_offset_gets_its_own_address);
}
