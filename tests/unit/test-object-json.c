/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects from their descriptions: what is refused, and that each descriptor has one owner after it. */
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

static void assert_fits(struct object *object)
{
	g_autofree char *conflict = object_set_conflict(&set, object);

	ck_assert_msg(conflict == NULL, "%s", conflict);
	object_set_add(&set, object);
}

static const char *parameter;
static char *message;

static struct object *parse(const char *text, struct fdlist *fds)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
	struct object *object;
	size_t used = 0;

	ck_assert_ptr_nonnull(json);
	parameter = message = NULL;
	object = object_from_json(json, fds, &used, &parameter, &message);
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
	ck_assert_uint_eq(object->first, 4);
	ck_assert_uint_eq(object->fds->len, 3);
	ck_assert_uint_eq(object->held, 3);
	ck_assert_int_eq(g_array_index(object->fds, int, 0), second);
	ck_assert_int_eq(fds.fds[1], -1);
	ck_assert_int_ge(fds.fds[0], 0);
	ck_assert_int_ge(fds.fds[4], 0);
	assert_fits(object);
	ck_assert_uint_eq(object->fds->len, 7);
	ck_assert_int_eq(g_array_index(object->fds, int, 3), -1);
	ck_assert_int_eq(g_array_index(object->fds, int, 4), second);
	back = object_to_json(object, 4, 3, 0);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "id")), 9);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "first")), 4);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "count")), 3);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "irqIndex")), 2);
	ck_assert_str_eq(json_string_value(json_object_get(back, "device")), "0000:01:00.0");
	ck_assert_ptr_null(json_object_get(back, "devid"));
	json_decref(back);
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
	char *of_record = NULL;
	struct object *object;

	add_eventfds(&fds, 2);
	object = object_from_record(json, &fds, &used, &of_record, &message);
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
	g_free(message);
	object_free(first);
}
END_TEST

static const char *const unplain[] = {
	"a\\u202eb", "a\\u2066b", "a\\u200bb", "a\\ufeffb", "a\\u2028b",	"a\\u2029b",
	"a\\u00adb", "a\\u115fb", "a\\ufe0fb", "a\\u061cb", "a\\udb40\\udc41b", "a\\u0378b",
};

static json_t *eventfd_named(const char *key, const char *escaped)
{
	g_autofree char *text = g_strdup_printf("{\"id\":1,\"kind\":\"eventfd\",\"name\":\"v\","
						"\"firstFileDescriptor\":0,\"%s\":\"%s\"}",
						key, escaped);

	return json_loads(text, 0, NULL);
}

START_TEST(a_name_that_is_not_what_it_looks_like_is_refused)
{
	static const char *const keys[] = {"name", "space", "device"};

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
		auto_fdlist fds = FDLIST_INIT;
		json_t *json = eventfd_named(keys[i], unplain[_i]);
		size_t used = 0;

		add_eventfds(&fds, 1);
		ck_assert_ptr_null(object_from_json(json, &fds, &used, &parameter, &message));
		ck_assert_msg(strstr(message, "not seen") != NULL, "%s", message);
		g_free(message);
		json_decref(json);
	}
}
END_TEST

START_TEST(a_name_that_an_older_daemon_took_comes_back)
{
	auto_fdlist fds = FDLIST_INIT;
	json_t *json = eventfd_named("name", unplain[_i]);
	char *of_record = NULL;
	struct object *object;
	size_t used = 0;

	add_eventfds(&fds, 1);
	object = object_from_record(json, &fds, &used, &of_record, &message);
	ck_assert_ptr_nonnull(object);
	object_free(object);
	json_decref(json);
}
END_TEST

/* Its owner can write to it: what it holds must not decide whether the session comes back. */
START_TEST(a_table_is_not_looked_at_when_it_comes_back)
{
	auto_fdlist fds = FDLIST_INIT;
	json_t *json = json_pack("{s:i, s:s, s:s, s:i}", "id", 1, "kind", "table", "name", "dma",
				 "firstFileDescriptor", 0);
	char *of_record = NULL;
	struct object *object;
	size_t used = 0;

	add_eventfds(&fds, 1);
	object = object_from_record(json, &fds, &used, &of_record, &message);
	ck_assert_ptr_nonnull(object);
	object_free(object);
	json_decref(json);
}
END_TEST

START_TEST(names_in_any_language_are_plain)
{
	static const char *const names[] = {"Ger\\u00e4t", "\\u65e5\\u672c", "\\u05d0\\u05d1",
					    "e\\u0301",	   "\\ud83d\\ude80", "a\\u00a0b"};

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		auto_fdlist fds = FDLIST_INIT;
		json_t *json = eventfd_named("name", names[i]);
		size_t used = 0;
		struct object *object;

		add_eventfds(&fds, 1);
		object = object_from_json(json, &fds, &used, &parameter, &message);
		ck_assert_msg(object != NULL, "%s: %s", names[i], message);
		object_free(object);
		json_decref(json);
	}
}
END_TEST

SUITE("object-json", setup, teardown)
{
	tcase_add_test(tests, a_description_takes_its_run_out_of_the_message);
	tcase_add_test(tests, a_device_has_the_kernels_spelling_of_its_address);
	tcase_add_test(tests, a_device_in_upper_case_is_kept_in_lower_case);
	tcase_add_loop_test(tests, a_malformed_description_is_told_by_its_parameter, 0,
			    G_N_ELEMENTS(malformed));
	tcase_add_test(tests, a_descriptor_named_twice_is_malformed);
	tcase_add_loop_test(tests, a_name_that_is_not_what_it_looks_like_is_refused, 0,
			    G_N_ELEMENTS(unplain));
	tcase_add_loop_test(tests, a_name_that_an_older_daemon_took_comes_back, 0,
			    G_N_ELEMENTS(unplain));
	tcase_add_test(tests, a_table_is_not_looked_at_when_it_comes_back);
	tcase_add_test(tests, names_in_any_language_are_plain);
}
