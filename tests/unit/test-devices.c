/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which session has which device: daemon/devices.c. */
#include <fcntl.h>
#include <glib.h>
#include <jansson.h>

#include "daemon/devices.h"
#include "daemon/opaque.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

#define DEVICE "0000:00:0a.0"

static struct event_base *base;
static struct server server;
static struct session *one, *other;

static void setup(void)
{
	base = event_base_new();
	ck_assert_int_eq(worker_start(base), 0);
	server = (struct server){.devices = devices_new()};
	one = session_make(&server, "one", 1, SESSION_ACTIVE);
	other = session_make(&server, "other", 2, SESSION_ACTIVE);
}

static void teardown(void)
{
	session_free(one);
	session_free(other);
	g_hash_table_unref(server.devices);
	worker_stop();
	event_base_free(base);
}

/* As a holder stores it, who may write the address in any case. */
static void store(struct session *session, const char *name)
{
	auto_fdlist fds = FDLIST_INIT;
	struct object_set staged;
	json_t *json = json_pack("{s:i, s:s, s:s, s:s, s:i}", "id", 1, "kind", "device", "name",
				 name, "space", "dma", "firstFileDescriptor", 0);
	char *parameter, *message;
	size_t used = 0;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	object_set_init(&staged, session->account);
	fdlist_append(&fds, &fd, 1);
	object_set_add(&staged, object_from_record(json, &fds, &used, &parameter, &message));
	devices_take(&server, session, &staged);
	object_set_move(&session->objects, &staged);
	object_set_clear(&staged);
	json_decref(json);
}

static void take_out(struct session *session)
{
	struct object *object = object_set_find(&session->objects, OBJECT_DEVICE, DEVICE);

	object_set_remove(&session->objects, object);
	object_free(object);
}

START_TEST(a_device_is_one_however_its_address_is_written)
{
	ck_assert_ptr_null(devices_holder(&server, DEVICE));
	store(one, "0000:00:0A.0");
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
	store(other, DEVICE);
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), other);
}
END_TEST

START_TEST(a_device_stays_with_its_session_until_it_is_closed)
{
	store(one, DEVICE);
	devices_drop_closed(&server, one);
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
	take_out(one);
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
	devices_drop_closed(&server, other);
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
	devices_drop_closed(&server, one);
	ck_assert_ptr_null(devices_holder(&server, DEVICE));
}
END_TEST

START_TEST(a_device_goes_with_its_session_and_no_other)
{
	store(one, DEVICE);
	take_out(one);
	devices_drop_all(&server, other);
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
	devices_drop_all(&server, one);
	ck_assert_ptr_null(devices_holder(&server, DEVICE));
}
END_TEST

/* Of a newer daemon's journal. */
static void hold_opaque(struct session *session, const char *name)
{
	struct fdlist fds = FDLIST_INIT;

	opaque_list_add(session->opaque,
			json_pack("[s, {}, {s:s}, {s:s, s:s}, {s:s, s:s}]", "no object", "kind",
				  "device", "kind", "teapot", "name", "0000:00:0b.0", "kind",
				  "device", "name", name),
			&fds, "it is of a newer daemon");
	devices_take_opaque(&server, session);
}

START_TEST(a_device_that_is_held_and_not_understood_is_its_sessions)
{
	hold_opaque(one, "0000:00:0A.0");
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
	ck_assert_ptr_null(devices_holder(&server, "0000:00:0b.0"));
	devices_drop_closed(&server, one); /* of something else */
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
	devices_drop_all(&server, one);
	ck_assert_ptr_null(devices_holder(&server, DEVICE));
}
END_TEST

START_TEST(who_knows_a_device_has_it)
{
	store(other, DEVICE);
	hold_opaque(one, DEVICE);
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), other);
	take_out(other);
	devices_drop_closed(&server, other);
	devices_drop_closed(&server, one);
	ck_assert_ptr_eq(devices_holder(&server, DEVICE), one);
}
END_TEST

SUITE("devices", setup, teardown)
{
	tcase_add_test(tests, a_device_is_one_however_its_address_is_written);
	tcase_add_test(tests, a_device_stays_with_its_session_until_it_is_closed);
	tcase_add_test(tests, a_device_goes_with_its_session_and_no_other);
	tcase_add_test(tests, a_device_that_is_held_and_not_understood_is_its_sessions);
	tcase_add_test(tests, who_knows_a_device_has_it);
}
