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

#include "common/table.h"
#include "daemon/kernel.h"
#include "daemon/object.h"
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
	ck_assert_uint_eq(object_set_total(&set), 7);
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

START_TEST(a_set_that_was_cleared_can_be_cleared_again)
{
	assert_fits(object_with(OBJECT_EVENTFD, 1, "a", 0, 3));
	object_set_clear(&set);
	object_set_clear(&set);
	object_free(NULL);
}
END_TEST

/* From JSON */

static char *parameter, *message;
static bool refused;

static struct object *parse(const char *text, struct fdlist *fds)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
	struct object *object;
	size_t used = 0;

	ck_assert_ptr_nonnull(json);
	parameter = message = NULL;
	object = object_from_json(json, fds, &used, &parameter, &message, &refused);
	json_decref(json);
	return object;
}

static void add_eventfds(struct fdlist *fds, int n)
{
	for (int i = 0; i < n; i++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		fdlist_append(fds, &fd, 1);
	}
}

START_TEST(a_description_takes_its_run_out_of_the_message)
{
	auto_fdlist fds = FDLIST_INIT;
	struct object *object;
	json_t *back;
	int second;

	add_eventfds(&fds, 5);
	second = fds.fds[1];
	object = parse("{\"id\":9,\"kind\":\"eventfd\",\"name\":\"v\",\"first\":4,\"count\":3,"
		       "\"firstFileDescriptor\":1,\"irqIndex\":2,\"device\":\"0000:01:00.0\"}",
		       &fds);
	ck_assert_ptr_nonnull(object);
	ck_assert_uint_eq(object->fds->len, 7);
	ck_assert_uint_eq(object->held, 3);
	ck_assert_int_eq(g_array_index(object->fds, int, 4), second);
	ck_assert_int_eq(fds.fds[1], -1);
	ck_assert_int_ge(fds.fds[0], 0);
	ck_assert_int_ge(fds.fds[4], 0);
	back = object_to_json(object, 4, 3, 0);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "id")), 9);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "first")), 4);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "count")), 3);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "irqIndex")), 2);
	ck_assert_str_eq(json_string_value(json_object_get(back, "device")), "0000:01:00.0");
	ck_assert_ptr_null(json_object_get(back, "devid"));
	json_decref(back);
	object_free(object);
}
END_TEST

START_TEST(a_device_has_the_kernels_spelling_of_its_address)
{
	static const char *const names[][2] = {
		{"0000:00:0A.0", "0000:00:0a.0"}, {"0000:3B:00.1", "0000:3b:00.1"},
		{"0000:3b:00.1", "0000:3b:00.1"}, {"A mediated device", "A mediated device"},
		{"DEADBEEF", "DEADBEEF"},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *device = object_spell(OBJECT_DEVICE, names[i][0]);
		g_autofree char *memory = object_spell(OBJECT_MEMORY, names[i][0]);

		ck_assert_str_eq(device, names[i][1]);
		ck_assert_str_eq(memory, names[i][0]);
	}
}
END_TEST

START_TEST(a_device_in_upper_case_is_kept_in_lower_case)
{
	auto_fdlist fds = FDLIST_INIT;
	size_t used = 0;
	json_t *json = json_pack("{s:i, s:s, s:s, s:s, s:i}", "id", 1, "kind", "device", "name",
				 "0000:00:0A.0", "space", "dma", "firstFileDescriptor", 0);
	struct object *object;

	add_eventfds(&fds, 2);
	object = object_from_record(json, &fds, &used, &parameter, &message);
	ck_assert_ptr_nonnull(object);
	ck_assert_str_eq(object->name, "0000:00:0a.0");
	object_free(object);
	json_decref(json);

	object = parse("{\"id\":2,\"kind\":\"eventfd\",\"name\":\"V\",\"firstFileDescriptor\":1,"
		       "\"irqIndex\":2,\"device\":\"0000:00:0A.0\"}",
		       &fds);
	ck_assert_ptr_nonnull(object);
	ck_assert_str_eq(object->name, "V");
	ck_assert_str_eq(object->attributes.device, "0000:00:0a.0");
	object_free(object);
}
END_TEST

static const struct {
	const char *text, *parameter;
} malformed[] = {
	{"{}", "objects"},
	{"[]", "objects"},
	{"1", "objects"},
	{"{\"id\":0,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0}", "objects"},
	{"{\"id\":4294967296,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0}",
	 "objects"},
	{"{\"id\":1,\"kind\":\"thing\",\"name\":\"v\",\"firstFileDescriptor\":0}", "objects"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"\",\"firstFileDescriptor\":0}", "objects"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\\u001b\",\"firstFileDescriptor\":0}",
	 "objects"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0,\"x\":1}",
	 "objects"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\"}", "firstFileDescriptor"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":3}",
	 "firstFileDescriptor"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":9223372036854775807}",
	 "firstFileDescriptor"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0,\"count\":4}",
	 "firstFileDescriptor"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0,\"count\":0}",
	 "count"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0,\"first\":1,"
	 "\"count\":9223372036854775807}",
	 "count"},
	{"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0,"
	 "\"first\":9223372036854775807}",
	 "count"},
	{"{\"id\":1,\"kind\":\"memory\",\"name\":\"v\",\"firstFileDescriptor\":0,\"count\":2}",
	 "count"},
	{"{\"id\":1,\"kind\":\"device\",\"name\":\"v\",\"firstFileDescriptor\":0}", "space"},
};

START_TEST(a_malformed_description_is_told_by_its_parameter)
{
	auto_fdlist fds = FDLIST_INIT;

	add_eventfds(&fds, 3);
	ck_assert_ptr_null(parse(malformed[_i].text, &fds));
	ck_assert_str_eq(parameter, malformed[_i].parameter);
	ck_assert_ptr_nonnull(message);
	ck_assert(!refused);
	g_free(parameter);
	g_free(message);
}
END_TEST

START_TEST(a_descriptor_of_another_kind_is_refused)
{
	auto_fdlist fds = FDLIST_INIT;

	add_eventfds(&fds, 1);
	ck_assert_ptr_null(parse(
		"{\"id\":1,\"kind\":\"memory\",\"name\":\"v\",\"firstFileDescriptor\":0}", &fds));
	ck_assert(refused);
	g_free(parameter);
	g_free(message);
}
END_TEST

START_TEST(a_descriptor_named_twice_is_malformed)
{
	const char *text =
		"{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"firstFileDescriptor\":0}";
	auto_fdlist fds = FDLIST_INIT;
	struct object *first;

	add_eventfds(&fds, 1);
	first = parse(text, &fds);
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(parse(text, &fds));
	ck_assert_str_eq(parameter, "firstFileDescriptor");
	ck_assert(!refused);
	g_free(parameter);
	g_free(message);
	object_free(first);
}
END_TEST

START_TEST(memory_is_sealed_against_shrinking_and_its_size_noted)
{
	auto_fdlist fds = FDLIST_INIT;
	int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct object *object;

	ck_assert_int_eq(ftruncate(fd, 12288), 0);
	fdlist_append(&fds, &fd, 1);
	object = parse("{\"id\":1,\"kind\":\"memory\",\"name\":\"ram\",\"firstFileDescriptor\":0}",
		       &fds);
	ck_assert_ptr_nonnull(object);
	ck_assert_uint_eq(object->size, 12288);
	ck_assert(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
	object_free(object);
}
END_TEST

/* What was given back is at the end of the list: to be index 0 again. */
static void take_up(struct fdlist *fds)
{
	fds->fds[0] = fds->fds[fds->n - 1];
	fds->n = 1;
}

START_TEST(a_table_is_looked_at_when_it_is_stored_and_not_when_it_comes_back)
{
	static const char description[] =
		"{\"id\":1,\"kind\":\"table\",\"name\":\"s0\",\"firstFileDescriptor\":0}";
	json_auto_t *json = json_loads(description, 0, NULL);
	auto_fdlist fds = FDLIST_INIT;
	int fd = table_create(8);
	struct object *object;
	size_t used = 0;

	fdlist_append(&fds, &fd, 1);
	object = parse(description, &fds);
	ck_assert_ptr_nonnull(object);
	object_take_all(object, &fds);
	object_free(object);
	take_up(&fds);
	ck_assert_int_eq(pwrite(fds.fds[0], "wiped", 5, 0), 5);
	ck_assert_ptr_null(parse(description, &fds));
	take_up(&fds);
	object = object_from_record(json, &fds, &used, &parameter, &message);
	ck_assert_ptr_nonnull(object);
	object_free(object);
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
	tcase_add_test(tests, a_set_that_was_cleared_can_be_cleared_again);
	tcase_add_test(tests, a_description_takes_its_run_out_of_the_message);
	tcase_add_test(tests, a_device_has_the_kernels_spelling_of_its_address);
	tcase_add_test(tests, a_device_in_upper_case_is_kept_in_lower_case);
	tcase_add_loop_test(tests, a_malformed_description_is_told_by_its_parameter, 0,
			    G_N_ELEMENTS(malformed));
	tcase_add_test(tests, a_descriptor_of_another_kind_is_refused);
	tcase_add_test(tests, a_descriptor_named_twice_is_malformed);
	tcase_add_test(tests, memory_is_sealed_against_shrinking_and_its_size_noted);
	tcase_add_test(tests, a_table_is_looked_at_when_it_is_stored_and_not_when_it_comes_back);
}
