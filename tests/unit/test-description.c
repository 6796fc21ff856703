/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An object as it stands in a message: written and read back, by whoever is strict and who is not. */
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "common/object.h"
#include "tests/unit/suite.h"

static const struct object_description full = {
	.id = OBJECT_MAX_ID,
	.kind = OBJECT_EVENTFD,
	.name = "0000:3b:00.0/msix",
	.first = OBJECT_MAX_FDS - 2,
	.count = 2,
	.first_descriptor = 1,
	.size = 0,
	.attributes = {"dma", "0000:3b:00.0", 2, 0, 3, 4, 5},
};

static char *parse(const char *text, bool strict, size_t n_fds, struct object_description *ret)
{
	const char *parameter;
	json_t *json = json_loads(text, 0, NULL);
	char *problem;

	ck_assert_ptr_nonnull(json);
	problem = object_description_parse(json, strict, n_fds, ret, &parameter);
	json_decref(json);
	return problem;
}

START_TEST(what_is_written_is_read_back)
{
	struct object_description back;
	const char *parameter;
	json_t *json = object_description_to_json(&full);
	struct object_attributes copy;

	ck_assert_ptr_null(object_description_parse(json, true, 3, &back, &parameter));
	copy = object_attributes_copy(&back.attributes);
	ck_assert_str_eq(back.name, full.name);
	ck_assert_int_eq(back.id, full.id);
	ck_assert_int_eq(back.kind, full.kind);
	ck_assert_int_eq(back.first, full.first);
	ck_assert_int_eq(back.count, full.count);
	ck_assert_int_eq(back.first_descriptor, full.first_descriptor);
	ck_assert_int_eq(back.size, 0);
	json_decref(json);
	/* The copy outlives what it was read from. */
	ck_assert_str_eq(copy.space, "dma");
	ck_assert_str_eq(copy.device, "0000:3b:00.0");
	ck_assert_int_eq(copy.irq_index, 2);
	ck_assert_int_eq(copy.irq_action, 0);
	ck_assert_int_eq(copy.devid, 3);
	ck_assert_int_eq(copy.ioas_id, 4);
	ck_assert_int_eq(copy.hwpt_id, 5);
	object_attributes_clear(&copy);
	ck_assert_ptr_null(copy.space);
	ck_assert_int_eq(copy.irq_index, -1);
}
END_TEST

START_TEST(what_is_not_given_is_left_out_and_reads_as_none)
{
	struct object_description d = {
		.id = 1,
		.kind = OBJECT_MEMORY,
		.name = "ram",
		.first = -1,
		.count = -1,
		.first_descriptor = 0,
		.size = -1,
		.attributes = OBJECT_ATTRIBUTES_NONE,
	};
	const char *parameter;
	json_t *json = object_description_to_json(&d);

	ck_assert_uint_eq(json_object_size(json), 4);
	ck_assert_ptr_null(object_description_parse(json, true, 1, &d, &parameter));
	ck_assert_int_eq(d.first, 0);
	ck_assert_int_eq(d.count, 1);
	ck_assert_int_eq(d.size, -1);
	ck_assert_ptr_null(d.attributes.space);
	ck_assert_int_eq(d.attributes.ioas_id, -1);
	json_decref(json);
}
END_TEST

START_TEST(a_field_that_is_not_known_is_an_error_to_the_strict_alone)
{
	static const char text[] = "{\"id\":1,\"kind\":\"memory\",\"name\":\"ram\","
				   "\"firstFileDescriptor\":0,\"later\":true}";
	struct object_description d;
	g_autofree char *problem = parse(text, true, 1, &d);

	ck_assert_ptr_nonnull(problem);
	ck_assert_ptr_null(parse(text, false, 1, &d));
	ck_assert_str_eq(object_kind_name(d.kind), "memory");
}
END_TEST

/* Of three descriptors that came. */
static const struct {
	int64_t first, count, index;
	bool fits;
} runs[] = {
	{0, 3, 0, true},
	{0, 1, 2, true},
	{0, 2, 2, false},
	{0, 1, 3, false},
	{0, 4, 0, false},
	{OBJECT_MAX_FDS - 3, 3, 0, true},
	{OBJECT_MAX_FDS - 2, 3, 0, false},
	{OBJECT_MAX_FDS, 1, 0, false},
	{0, 0, 0, false},
	{-1, 1, 0, false},
	{0, 1, -1, false},
	{1, INT64_MAX, 0, false},
	{INT64_MAX, INT64_MAX, INT64_MAX, false},
	{0, 1, INT64_MAX, false},
	{INT64_MIN, INT64_MIN, INT64_MIN, false},
};

START_TEST(a_run_is_within_its_object_and_what_came)
{
	g_autofree char *text =
		g_strdup_printf("{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\",\"first\":%" PRId64
				",\"count\":%" PRId64 ",\"firstFileDescriptor\":%" PRId64 "}",
				runs[_i].first, runs[_i].count, runs[_i].index);
	struct object_description d;
	g_autofree char *problem = parse(text, false, 3, &d);

	ck_assert_int_eq(!problem, runs[_i].fits);
}
END_TEST

START_TEST(a_name_is_safe_on_a_terminal)
{
	g_autofree char *longest = g_strnfill(OBJECT_NAME_MAX, 'n');
	g_autofree char *longer = g_strnfill(OBJECT_NAME_MAX + 1, 'n');

	ck_assert(object_name_is_valid(longest));
	ck_assert(object_name_is_valid("r\xc3\xa4m 0"));
	ck_assert(!object_name_is_valid(longer));
	ck_assert(!object_name_is_valid(""));
	ck_assert(!object_name_is_valid("a\nb"));
	ck_assert(!object_name_is_valid("\x7f"));
	ck_assert(!object_name_is_valid("\xc2\x9b")); /* an escape of eight bits */
	ck_assert(!object_name_is_valid("\xff"));
	ck_assert(!object_name_is_valid("r\xc3"));
}
END_TEST

SUITE("description", NULL, NULL)
{
	tcase_add_test(tests, what_is_written_is_read_back);
	tcase_add_test(tests, what_is_not_given_is_left_out_and_reads_as_none);
	tcase_add_test(tests, a_field_that_is_not_known_is_an_error_to_the_strict_alone);
	tcase_add_loop_test(tests, a_run_is_within_its_object_and_what_came, 0, G_N_ELEMENTS(runs));
	tcase_add_test(tests, a_name_is_safe_on_a_terminal);
}
