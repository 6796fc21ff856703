/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects and sets of them: what fits together, and that no descriptor is lost or closed twice. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/account.h"
#include "daemon/fdinfo.h"
#include "daemon/kernel.h"
#include "daemon/object.h"
#include "daemon/tally.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

static struct event_base *base;
static struct object_set set;
static int fds_before;

static int open_fds(void)
{
	int n = 0;

	worker_drain();
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void setup(void)
{
	base = event_base_new();
	ck_assert_int_eq(worker_start(base), 0);
	fdinfo_begin();
	fds_before = open_fds();
	object_set_init(&set, NULL);
}

static void teardown(void)
{
	object_set_clear(&set);
	ck_assert_int_eq(open_fds(), fds_before);
	worker_stop();
	event_base_free(base);
}

/* An object of n eventfds (or of one memfd), from number first on. */
static struct object *object_with(enum object_kind kind, int64_t id, const char *name, int first,
				  int n)
{
	struct object *object = g_new0(struct object, 1);
	int gap = -1;

	object->id = id;
	object->kind = kind;
	object->name = g_strdup(name);
	object->fds = g_array_new(FALSE, FALSE, sizeof(int));
	for (int i = 0; i < first; i++)
		g_array_append_val(object->fds, gap);
	for (int i = 0; i < n; i++) {
		int fd = kind == OBJECT_EVENTFD ? eventfd(0, EFD_CLOEXEC)
						: memfd_create("m", MFD_CLOEXEC);

		g_array_append_val(object->fds, fd);
		object->held++;
	}
	return object;
}

/* The same description with copies of the descriptors. */
static struct object *copy_of(const struct object *object)
{
	struct object *copy = object_with(object->kind, object->id, object->name, 0, 0);

	for (guint i = 0; i < object->fds->len; i++) {
		int fd = g_array_index(object->fds, int, i);

		fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
		g_array_append_val(copy->fds, fd);
		copy->held += fd >= 0;
	}
	return copy;
}

static void assert_fits(struct object *object)
{
	g_autofree char *conflict = object_set_conflict(&set, object);

	ck_assert_msg(conflict == NULL, "%s", conflict);
	object_set_add(&set, object);
}

/* Consumes it. */
static void assert_conflicts(struct object *object, const char *words)
{
	g_autofree char *conflict = object_set_conflict(&set, object);

	ck_assert_ptr_nonnull(conflict);
	ck_assert_msg(strstr(conflict, words) != NULL, "%s", conflict);
	object_free(object);
}

START_TEST(kinds_have_names_both_ways)
{
	ck_assert_int_eq(object_kind_from_name(object_kind_name(_i)), _i);
	ck_assert_int_eq(object_kind_from_name("socket"), -1);
	ck_assert_int_eq(object_kind_from_name(""), -1);
}
END_TEST

START_TEST(an_object_is_found_by_kind_and_name_and_by_id)
{
	struct object *a = object_with(OBJECT_EVENTFD, 1, "a", 0, 1);
	struct object *b = object_with(OBJECT_MEMORY, 2, "a", 0, 1);

	assert_fits(a);
	assert_fits(b);
	ck_assert_ptr_eq(object_set_find(&set, OBJECT_EVENTFD, "a"), a);
	ck_assert_ptr_eq(object_set_find(&set, OBJECT_MEMORY, "a"), b);
	ck_assert_ptr_null(object_set_find(&set, OBJECT_TABLE, "a"));
	ck_assert_ptr_eq(object_set_find_id(&set, 2), b);
	ck_assert_ptr_null(object_set_find_id(&set, 3));
	ck_assert_uint_eq(object_set_total(&set), 2);
}
END_TEST

START_TEST(a_name_keeps_its_id_and_an_id_its_name)
{
	struct object *a = object_with(OBJECT_EVENTFD, 1, "a", 0, 1), *other;

	assert_fits(a);
	other = copy_of(a);
	other->id = 2;
	assert_conflicts(other, "id 1");
	assert_conflicts(object_with(OBJECT_EVENTFD, 1, "b", 0, 1), "choose another");
	assert_conflicts(object_with(OBJECT_MEMORY, 1, "a", 0, 1), "choose another");
}
END_TEST

START_TEST(the_same_open_file_again_is_no_conflict_and_changes_nothing)
{
	struct object *a = object_with(OBJECT_EVENTFD, 1, "a", 0, 5);
	int fd = g_array_index(a->fds, int, 3), before;

	assert_fits(a);
	before = open_fds();
	assert_fits(copy_of(a));
	ck_assert_int_eq(open_fds(), before);
	ck_assert_uint_eq(set.objects->len, 1);
	ck_assert_int_eq(g_array_index(a->fds, int, 3), fd);
	ck_assert_uint_eq(object_set_total(&set), 5);
}
END_TEST

START_TEST(another_file_under_a_held_number_is_a_conflict)
{
	assert_fits(object_with(OBJECT_EVENTFD, 1, "a", 2, 3));
	assert_conflicts(object_with(OBJECT_EVENTFD, 1, "a", 4, 1), "number 4");
	assert_conflicts(object_with(OBJECT_EVENTFD, 1, "a", 0, 3), "number 2");
}
END_TEST

START_TEST(runs_of_one_object_grow_together_with_their_gaps)
{
	struct object *a = object_with(OBJECT_EVENTFD, 1, "a", 2, 2);

	assert_fits(a);
	assert_fits(object_with(OBJECT_EVENTFD, 1, "a", 6, 1));
	assert_fits(object_with(OBJECT_EVENTFD, 1, "a", 0, 1));
	ck_assert_uint_eq(a->fds->len, 7);
	ck_assert_uint_eq(a->held, 4);
	ck_assert_uint_eq(object_set_total(&set), 4);
	ck_assert_uint_eq(object_set_slots(&set), 7);
	ck_assert_uint_eq(object_run(a, 0), 1);
	ck_assert_uint_eq(object_run(a, 1), 0);
	ck_assert_uint_eq(object_run(a, 2), 2);
	ck_assert_uint_eq(object_run(a, 3), 1);
	ck_assert_uint_eq(object_run(a, 6), 1);
	ck_assert_uint_eq(object_run(a, 7), 0);
	ck_assert_uint_eq(object_run(a, 100), 0);
}
END_TEST

START_TEST(a_merge_closes_what_it_does_not_need)
{
	struct object *a = object_with(OBJECT_EVENTFD, 1, "a", 0, 2), *again;
	int before, more = eventfd(0, EFD_CLOEXEC);

	assert_fits(a);
	again = copy_of(a);
	g_array_append_val(again->fds, more);
	again->held++;
	before = open_fds();
	assert_fits(again);
	ck_assert_int_eq(open_fds(), before - 2);
	ck_assert_int_eq(g_array_index(a->fds, int, 2), more);
	ck_assert_uint_eq(a->held, 3);
}
END_TEST

START_TEST(a_state_takes_the_place_of_the_last_of_its_name)
{
	struct object *second = object_with(OBJECT_STATE, 5, "pci", 0, 1);
	int before;

	assert_fits(object_with(OBJECT_STATE, 1, "pci", 0, 1));
	assert_fits(object_with(OBJECT_MEMORY, 7, "ram", 0, 1));
	before = open_fds();
	assert_fits(second);
	ck_assert_int_eq(open_fds(), before - 1);
	ck_assert_ptr_eq(object_set_find(&set, OBJECT_STATE, "pci"), second);
	ck_assert_ptr_null(object_set_find_id(&set, 1));
	ck_assert_ptr_eq(object_set_find_id(&set, 5), second);
	ck_assert_uint_eq(object_set_total(&set), 2);
	assert_conflicts(object_with(OBJECT_STATE, 7, "pci", 0, 1), "choose another");
}
END_TEST

START_TEST(a_removed_object_is_its_takers_and_its_name_and_id_are_free)
{
	struct object *a = object_with(OBJECT_EVENTFD, 1, "a", 1, 2);
	int before;

	assert_fits(a);
	assert_fits(object_with(OBJECT_EVENTFD, 2, "b", 0, 1));
	before = open_fds();
	object_set_remove(&set, a);
	ck_assert_int_eq(open_fds(), before);
	ck_assert_ptr_null(object_set_find(&set, OBJECT_EVENTFD, "a"));
	ck_assert_ptr_null(object_set_find_id(&set, 1));
	ck_assert_uint_eq(object_set_total(&set), 1);
	object_free(a);
	ck_assert_int_eq(open_fds(), before - 2);
	assert_fits(object_with(OBJECT_MEMORY, 1, "a", 0, 1));
}
END_TEST

START_TEST(taking_all_empties_the_set_without_its_gaps_in_order)
{
	struct object *a = object_with(OBJECT_EVENTFD, 1, "a", 3, 2);
	int first = g_array_index(a->fds, int, 3);
	auto_fdlist fds = FDLIST_INIT;

	assert_fits(a);
	assert_fits(object_with(OBJECT_MEMORY, 2, "b", 0, 1));
	object_set_take_all(&set, &fds);
	ck_assert_uint_eq(fds.n, 3);
	ck_assert_int_eq(fds.fds[0], first);
	ck_assert_uint_eq(object_set_total(&set), 0);
	ck_assert_uint_eq(set.objects->len, 0);
	assert_fits(object_with(OBJECT_EVENTFD, 1, "a", 0, 1));
}
END_TEST

START_TEST(what_is_forgotten_stays_another_sets_to_its_tally)
{
	struct object_set other;
	struct object *table = object_with(OBJECT_TABLE, 1, "a", 0, 1);

	object_set_init(&other, NULL);
	assert_fits(table);
	assert_fits(object_with(OBJECT_TABLE, 2, "b", 0, 1));
	object_set_add(&other, table);
	object_set_forget(&set, 1);
	object_set_clear(&set);
	ck_assert_int_eq(open_fds(), fds_before + 1);
	ck_assert_ptr_nonnull(table->tally);
	ck_assert_int_eq(table->tally->table, g_array_index(table->fds, int, 0));
	object_set_clear(&other);
}
END_TEST

START_TEST(a_set_that_was_cleared_can_be_cleared_again)
{
	assert_fits(object_with(OBJECT_EVENTFD, 1, "a", 0, 3));
	object_set_clear(&set);
	object_set_clear(&set);
	object_free(NULL);
}
END_TEST

/* What would be one bucket of a table whose hash has no secret: all names, and all ids. */
START_TEST(no_choice_of_names_and_ids_makes_a_look_up_long)
{
	for (int i = 0; i < 4096; i++) {
		char name[25] = "";

		/* To g_str_hash() "Ez" and "FY" are one, and so is all that is made of them. */
		for (int bit = 0; bit < 12; bit++)
			memcpy(name + 2 * (size_t)bit, i >> bit & 1 ? "Ez" : "FY", 2);
		ck_assert_uint_eq(g_str_hash(name), g_str_hash("FYFYFYFYFYFYFYFYFYFYFYFY"));
		assert_fits(object_with(OBJECT_EVENTFD, 1 + ((int64_t)i << 20), name, 0, 0));
	}
	/* A look-up makes one comparison on each level. */
	ck_assert_int_le(g_tree_height(set.by_name), 18);
	ck_assert_int_le(g_tree_height(set.by_id), 18);
	ck_assert_ptr_nonnull(object_set_find(&set, OBJECT_EVENTFD, "EzFYEzFYEzFYEzFYEzFYEzFY"));
	ck_assert_ptr_nonnull(object_set_find_id(&set, 1 + (INT64_C(4095) << 20)));
}
END_TEST

START_TEST(gaps_are_no_descriptors)
{
	char *refusal;
	struct account *account = account_get(1234);
	struct object *late = object_with(OBJECT_EVENTFD, 1, "a", 0, 1);

	set.account = account;
	late->first = OBJECT_MAX_FDS - 1;
	assert_fits(late);
	ck_assert_uint_eq(object_set_total(&set), 1);
	ck_assert_uint_eq(object_set_slots(&set), OBJECT_MAX_FDS);
	ck_assert_uint_eq(account->descriptors, 1);
	ck_assert_uint_eq(account->gaps, OBJECT_MAX_FDS - 1);
	ck_assert_ptr_null(account_refuse_descriptors(account, 1));
	for (int i = 2; i <= 5; i++) {
		late = object_with(OBJECT_EVENTFD, i, "a", 0, 1);
		late->name[0] += i;
		late->first = OBJECT_MAX_FDS - 1;
		assert_fits(late);
	}
	refusal = account_refuse_descriptors(account, 100);
	ck_assert_ptr_nonnull(refusal);
	ck_assert_ptr_nonnull(strstr(refusal, "gaps"));
	g_free(refusal);
	object_set_clear(&set);
	ck_assert_uint_eq(account->descriptors + account->gaps, 0);
	object_set_init(&set, NULL);
	account_put(account);
}
END_TEST

static void leave_out_held(struct object_set *batch)
{
	struct object_set missing;

	object_set_init(&missing, NULL);
	for (guint i = 0; i < batch->objects->len; i++)
		object_set_add_missing(&missing, g_ptr_array_index(batch->objects, i), &set);
	object_set_forget(batch, batch->objects->len);
	object_set_clear(batch);
	*batch = missing;
}

/* What is left of a batch when what is held is left out of it. */
START_TEST(of_what_is_held_only_the_rest_is_new)
{
	struct object_set batch;
	struct object *held = object_with(OBJECT_EVENTFD, 1, "a", 0, 3), *more = copy_of(held);
	struct object *rest = object_with(OBJECT_EVENTFD, 1, "a", 0, 2);
	struct object *state = object_with(OBJECT_STATE, 3, "s", 0, 1);
	int before;

	assert_fits(held);
	assert_fits(state);
	object_set_init(&batch, NULL);
	object_set_add(&batch, more);
	rest->first = 3;
	object_set_add(&batch, rest); /* 0 to 2 are held, 3 and 4 are new */
	object_set_add(&batch, copy_of(state));
	object_set_add(&batch, object_with(OBJECT_MEMORY, 2, "b", 0, 1));
	before = open_fds();
	leave_out_held(&batch);
	ck_assert_int_eq(open_fds(), before - 4);
	ck_assert_uint_eq(batch.objects->len, 2);
	ck_assert_uint_eq(object_set_total(&batch), 3);
	ck_assert_uint_eq(object_run(more, 0), 0);
	ck_assert_uint_eq(object_run(more, 3), 2);
	ck_assert_ptr_null(object_set_find(&batch, OBJECT_STATE, "s"));
	object_set_move(&set, &batch);
	ck_assert_uint_eq(object_run(held, 0), 5);
	ck_assert_uint_eq(object_set_total(&set), 7);
	object_set_clear(&batch);
}
END_TEST

START_TEST(another_state_of_the_name_is_new)
{
	struct object_set batch;

	assert_fits(object_with(OBJECT_STATE, 3, "s", 0, 1));
	object_set_init(&batch, NULL);
	object_set_add(&batch, object_with(OBJECT_STATE, 3, "s", 0, 1));
	leave_out_held(&batch);
	ck_assert_uint_eq(object_set_total(&batch), 1);
	object_set_clear(&batch);
}
END_TEST

SUITE("object", setup, teardown)
{
	tcase_add_loop_test(tests, kinds_have_names_both_ways, 0, OBJECT_KINDS);
	tcase_add_test(tests, an_object_is_found_by_kind_and_name_and_by_id);
	tcase_add_test(tests, a_name_keeps_its_id_and_an_id_its_name);
	tcase_add_test(tests, the_same_open_file_again_is_no_conflict_and_changes_nothing);
	tcase_add_test(tests, another_file_under_a_held_number_is_a_conflict);
	tcase_add_test(tests, runs_of_one_object_grow_together_with_their_gaps);
	tcase_add_test(tests, a_merge_closes_what_it_does_not_need);
	tcase_add_test(tests, a_state_takes_the_place_of_the_last_of_its_name);
	tcase_add_test(tests, a_removed_object_is_its_takers_and_its_name_and_id_are_free);
	tcase_add_test(tests, taking_all_empties_the_set_without_its_gaps_in_order);
	tcase_add_test(tests, what_is_forgotten_stays_another_sets_to_its_tally);
	tcase_add_test(tests, a_set_that_was_cleared_can_be_cleared_again);
	tcase_add_test(tests, no_choice_of_names_and_ids_makes_a_look_up_long);
	tcase_add_test(tests, gaps_are_no_descriptors);
	tcase_add_test(tests, of_what_is_held_only_the_rest_is_new);
	tcase_add_test(tests, another_state_of_the_name_is_new);
}
