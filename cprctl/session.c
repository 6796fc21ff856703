/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A SessionInfo of the wire put into words and into JSON. One place, so that list, show and
 * release tell of a session alike.
 */
#include <string.h>

#include "common/object.h"
#include "cprctl/output.h"
#include "cprctl/session.h"

json_t *session_json(const json_t *session)
{
	static const char *const integers[] = {"uid", "mappings", "pendingInterrupts", "ageUsec"};
	json_t *told = json_deep_copy(session);
	json_t *counts = json_object();
	json_t *holder, *count;
	size_t i;

	json_array_foreach(json_object_get(session, "objects"), i, count)
	{
		const char *kind = output_string(count, "kind");

		json_object_set_new(
			counts, kind,
			json_integer(output_int(count, "count") + output_int(counts, kind)));
	}
	json_object_set_new(told, "objects", counts);

	holder = json_object_get(told, "holder");
	if (!json_is_object(holder))
		json_object_set_new(told, "holder", json_null());
	else if (!json_object_get(holder, "unit"))
		json_object_set_new(holder, "unit", json_null());

	json_object_set_new(told, "unit",
			    *session_unit(session) ? json_string(session_unit(session))
						   : json_null());
	if (!json_is_array(json_object_get(told, "devices")))
		json_object_set_new(told, "devices",
				    session_hides_devices(session) ? json_null() : json_array());

	if (!json_object_get(told, "warning"))
		json_object_set_new(told, "warning", json_null());

	/* sd-varlink and others leave a 0 out when it is the default. */
	for (i = 0; i < G_N_ELEMENTS(integers); i++)
		if (!json_is_integer(json_object_get(told, integers[i])))
			json_object_set_new(told, integers[i], json_integer(0));
	return told;
}

int64_t session_count_kind(const json_t *session, const char *kind)
{
	int64_t sum = 0;
	json_t *count;
	size_t i;

	json_array_foreach(json_object_get(session, "objects"), i, count)
	{
		if (!kind || g_str_equal(output_string(count, "kind"), kind))
			sum += output_int(count, "count");
	}
	return sum;
}

int64_t session_count(const json_t *session)
{
	return session_count_kind(session, NULL);
}

char *session_objects(const json_t *session)
{
	/* In the order in which they matter to whoever loses them. */
	static const struct {
		enum object_kind kind;
		const char *one, *many;
	} names[] = {
		{OBJECT_DEVICE, "device", "devices"},
		{OBJECT_GROUP, "group", "groups"},
		{OBJECT_CONTAINER, "container", "containers"},
		{OBJECT_IOMMUFD, "iommufd", "iommufds"},
		{OBJECT_MEMORY, "memory file", "memory files"},
		{OBJECT_EVENTFD, "eventfd", "eventfds"},
		{OBJECT_TABLE, "mapping table", "mapping tables"},
		{OBJECT_STATE, "state blob", "state blobs"},
	};
	g_autoptr(GString) text = g_string_new(NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		int64_t n = session_count_kind(session, object_kind_name(names[i].kind));
		g_autofree char *count = output_count(n, names[i].one, names[i].many);

		if (n)
			g_string_append_printf(text, "%s%s", text->len ? ", " : "", count);
	}
	return g_strdup(text->len ? text->str : "nothing");
}

const char *session_unit(const json_t *session)
{
	const char *unit = output_string(session, "unit");

	return *unit ? unit : output_string(json_object_get(session, "holder"), "unit");
}

bool session_hides_devices(const json_t *session)
{
	if (json_is_array(json_object_get(session, "devices")))
		return false;
	return session_count_kind(session, "device") > 0 ||
	       g_str_equal(output_string(session, "state"), "unreadable");
}

bool session_has_device(const json_t *session, const char *address)
{
	json_t *device;
	size_t i;

	json_array_foreach(json_object_get(session, "devices"), i, device)
	{
		if (g_strcmp0(json_string_value(device), address) == 0)
			return true;
	}
	return false;
}

char *session_devices_text(const json_t *session, size_t max, const char *separator)
{
	const json_t *devices = json_object_get(session, "devices");
	g_autoptr(GString) text = g_string_new(session_hides_devices(session) ? "?" : "");
	size_t n = json_array_size(devices);

	for (size_t i = 0; i < MIN(n, max); i++) {
		const char *address = json_string_value(json_array_get(devices, i));

		g_string_append_printf(text, "%s%s", i ? separator : "", address ? address : "?");
	}
	if (n > max)
		g_string_append_printf(text, "%s+%zu", separator, n - max);
	return g_strdup(text->str);
}

char *session_holder(const json_t *session)
{
	const json_t *holder = json_object_get(session, "holder");
	const char *unit = output_string(holder, "unit");

	if (!json_is_object(holder))
		return g_strdup("-");
	if (!*unit)
		return g_strdup_printf("%" PRId64, output_int(holder, "pid"));
	return g_strdup_printf("%" PRId64 " (%s)", output_int(holder, "pid"), unit);
}
