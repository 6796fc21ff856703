/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is said of an object: common/object.h. */
#include "common/object.h"

#include <glib.h>
#include <string.h>

#include "common/plain.h"
#include "common/unpack.h"

static const char *const kind_names[OBJECT_KINDS] = {
	[OBJECT_CONTAINER] = "container", [OBJECT_GROUP] = "group",   [OBJECT_DEVICE] = "device",
	[OBJECT_IOMMUFD] = "iommufd",	  [OBJECT_MEMORY] = "memory", [OBJECT_EVENTFD] = "eventfd",
	[OBJECT_TABLE] = "table",	  [OBJECT_STATE] = "state",
};

const char *object_kind_name(enum object_kind kind)
{
	return kind_names[kind];
}

int object_kind_from_name(const char *name)
{
	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		if (strcmp(kind_names[kind], name) == 0)
			return kind;
	return -1;
}

bool object_name_is_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > OBJECT_NAME_MAX)
		return false;
	name += plain_ascii(name);
	if (!g_utf8_validate(name, -1, NULL))
		return false;
	for (const char *p = name; *p; p = g_utf8_next_char(p))
		if (g_unichar_iscntrl(g_utf8_get_char(p)))
			return false;
	return true;
}

struct object_attributes object_attributes_copy(const struct object_attributes *attributes)
{
	struct object_attributes copy = *attributes;

	copy.space = g_strdup(attributes->space);
	copy.device = g_strdup(attributes->device);
	return copy;
}

void object_attributes_clear(struct object_attributes *attributes)
{
	g_free(attributes->space);
	g_free(attributes->device);
	*attributes = OBJECT_ATTRIBUTES_NONE;
}

/* What must hold of a description's names and numbers, whatever came with it. */
static char *check_identity(const struct object_description *d, const char *kind_name, int kind)
{
	const struct object_attributes *attributes = &d->attributes;

	if (kind < 0)
		return g_strdup_printf("kind \"%s\" is unknown", kind_name);
	if (!object_name_is_valid(d->name) ||
	    (attributes->space && !object_name_is_valid(attributes->space)) ||
	    (attributes->device && !object_name_is_valid(attributes->device)))
		return g_strdup("names are 1 to 255 bytes without control characters");
	if (d->id < 1 || d->id > OBJECT_MAX_ID)
		return g_strdup_printf("id %" JSON_INTEGER_FORMAT " is outside of 1..%u", d->id,
				       OBJECT_MAX_ID);
	return NULL;
}

static char *check_run(const struct object_description *d, size_t n_fds, const char **ret_parameter)
{
	*ret_parameter = "count";
	if (d->first < 0 || d->count < 1 || d->first > OBJECT_MAX_FDS ||
	    d->count > OBJECT_MAX_FDS || d->first + d->count > OBJECT_MAX_FDS)
		return g_strdup_printf("first %" JSON_INTEGER_FORMAT
				       " and count %" JSON_INTEGER_FORMAT
				       " must be a run within 0..%d",
				       d->first, d->count, OBJECT_MAX_FDS - 1);
	*ret_parameter = "firstFileDescriptor";
	if (d->first_descriptor < 0 || (uint64_t)d->first_descriptor > n_fds ||
	    (uint64_t)d->count > n_fds - d->first_descriptor)
		return g_strdup_printf("%" JSON_INTEGER_FORMAT
				       " descriptors from %" JSON_INTEGER_FORMAT
				       " on are named, but %zu came with the message",
				       d->count, d->first_descriptor, n_fds);
	return NULL;
}

char *object_description_parse(json_t *json, bool strict, size_t n_fds,
			       struct object_description *ret_description,
			       const char **ret_parameter)
{
	struct object_description d = {
		.count = 1,
		.first_descriptor = -1,
		.size = -1,
		.attributes = OBJECT_ATTRIBUTES_NONE,
	};
	struct object_attributes *attributes = &d.attributes;
	const char *kind_name = "", *space = NULL, *device = NULL;
	g_autofree char *field = NULL;
	json_error_t error;
	char *message;
	int kind;

	*ret_parameter = "objects";
	if (json_unpack_ex(json, &error, strict ? JSON_STRICT : 0,
			   "{s:I, s:s, s:s, s?I, s?I, s?I, s?s, s?s, s?I, s?I, s?I, s?I, s?I, s?I}",
			   "id", &d.id, "kind", &kind_name, "name", &d.name, "first", &d.first,
			   "count", &d.count, "firstFileDescriptor", &d.first_descriptor, "space",
			   &space, "device", &device, "irqIndex", &attributes->irq_index,
			   "irqAction", &attributes->irq_action, "devid", &attributes->devid,
			   "ioasId", &attributes->ioas_id, "hwptId", &attributes->hwpt_id, "size",
			   &d.size) < 0)
		return unpack_explain(&error, &field);
	attributes->space = (char *)space;
	attributes->device = (char *)device;
	kind = object_kind_from_name(kind_name);
	message = check_identity(&d, kind_name, kind);
	if (!message)
		message = check_run(&d, n_fds, ret_parameter);
	if (message)
		return message;
	d.kind = kind;
	*ret_description = d;
	return NULL;
}

static void set_integer(json_t *json, const char *key, int64_t value)
{
	if (value >= 0)
		json_object_set_new(json, key, json_integer(value));
}

static void set_string(json_t *json, const char *key, const char *value)
{
	if (value)
		json_object_set_new(json, key, json_string(value));
}

json_t *object_description_to_json(const struct object_description *description)
{
	const struct object_attributes *attributes = &description->attributes;
	json_t *json = json_object();

	set_integer(json, "id", description->id);
	set_string(json, "kind", object_kind_name(description->kind));
	set_string(json, "name", description->name);
	set_integer(json, "first", description->first);
	set_integer(json, "count", description->count);
	set_integer(json, "firstFileDescriptor", description->first_descriptor);
	set_string(json, "space", attributes->space);
	set_string(json, "device", attributes->device);
	set_integer(json, "irqIndex", attributes->irq_index);
	set_integer(json, "irqAction", attributes->irq_action);
	set_integer(json, "devid", attributes->devid);
	set_integer(json, "ioasId", attributes->ioas_id);
	set_integer(json, "hwptId", attributes->hwpt_id);
	set_integer(json, "size", description->size);
	return json;
}
