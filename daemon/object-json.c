/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects as they stand on the wire (type Object of io.vfiocpr.Session): parsed, checked, written. */
#include <inttypes.h>
#include <string.h>

#include "common/plain.h"
#include "daemon/object.h"

/* Whether the attributes suit the kind: a device needs the space that it is in, and so on. */
static char *check_attributes(const struct object *object, const char **ret_parameter)
{
	bool single = object->kind != OBJECT_EVENTFD;

	*ret_parameter = "count";
	if (single && (object->first != 0 || object->fds->len != 1))
		return g_strdup_printf(
			"a %s is one descriptor, number 0 of its object; runs are for "
			"eventfds",
			object_kind_name(object->kind));
	*ret_parameter = "space";
	if ((object->kind == OBJECT_GROUP || object->kind == OBJECT_DEVICE) &&
	    !object->attributes.space)
		return g_strdup_printf("%s %s needs the address space it belongs to",
				       object_kind_name(object->kind), object->name);
	return NULL;
}

bool object_has_size(const struct object *object)
{
	return object->kind == OBJECT_MEMORY || object->kind == OBJECT_TABLE ||
	       object->kind == OBJECT_STATE;
}

/* Moves the run's descriptors out of the message. */
static char *take_descriptors(struct object *object, const struct object_description *description,
			      struct fdlist *fds)
{
	object->first = description->first;
	for (int64_t i = 0; i < description->count; i++) {
		int64_t index = description->first_descriptor + i;
		int fd = fdlist_take(fds, index);

		if (fd < 0)
			return g_strdup_printf("descriptor %" PRId64 " is named twice", index);
		g_array_append_val(object->fds, fd);
		object->held++;
	}
	return NULL;
}

/* For an object that is refused: puts its descriptors back into the message's list. */
static void give_back(struct object *object, struct fdlist *fds)
{
	object_take_all(object, fds);
	object_free(object);
}

/* New names must be safe to show. What an older daemon has taken keeps its name. */
static char *check_names(const struct object_description *description)
{
	const char *const names[] = {description->name, description->attributes.space,
				     description->attributes.device};

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		if (names[i] && !plain_text(names[i]))
			return g_strdup(
				"a name has a character that is not seen, or changes how the rest is "
				"shown (a format character such as a bidi control or a zero-width "
				"space, a separator of lines, or one that Unicode has not assigned): "
				"leave it out");
	return NULL;
}

static struct object *make(const struct object_description *description)
{
	struct object *object = g_new0(struct object, 1);

	object->id = description->id;
	object->kind = description->kind;
	object->name = object_spell(description->kind, description->name);
	object->attributes = object_attributes_copy(&description->attributes);
	if (object->attributes.device) {
		g_free(object->attributes.device);
		object->attributes.device =
			object_spell(OBJECT_DEVICE, description->attributes.device);
	}
	object->fds = g_array_new(FALSE, FALSE, sizeof(int));
	return object;
}

/* Makes the object and moves its descriptors; what they are is not looked at. */
static struct object *take(const struct object_description *description, struct fdlist *fds,
			   size_t *used, const char **ret_parameter, char **ret_message)
{
	struct object *object = make(description);
	char *message;

	*ret_parameter = "firstFileDescriptor";
	message = take_descriptors(object, description, fds);
	if (!message)
		message = check_attributes(object, ret_parameter);
	if (!message) {
		*used += description->count;
		return object;
	}
	give_back(object, fds);
	*ret_message = message;
	return NULL;
}

struct object *object_from_json(json_t *json, struct fdlist *fds, size_t *used,
				const char **ret_parameter, char **ret_message)
{
	struct object_description description = {0};

	*ret_message = object_description_parse(json, true, fds->n, &description, ret_parameter);
	if (!*ret_message)
		*ret_message = check_names(&description);
	if (*ret_message)
		return NULL;
	return take(&description, fds, used, ret_parameter, ret_message);
}

struct object *object_from_record(json_t *json, struct fdlist *fds, size_t *used,
				  char **ret_parameter, char **ret_message)
{
	struct object_description description = {0};
	struct object *object = NULL;
	const char *parameter;

	*ret_message = object_description_parse(json, true, fds->n, &description, &parameter);
	if (!*ret_message)
		object = take(&description, fds, used, &parameter, ret_message);
	if (object) {
		object->size = MAX(description.size, 0);
		object_fill_up(object);
	}
	if (!object)
		*ret_parameter = g_strdup(parameter);
	return object;
}

json_t *object_to_json(const struct object *object, size_t first, size_t count, int first_fd)
{
	bool is_run = object->kind == OBJECT_EVENTFD;
	const struct object_description description = {
		.id = object->id,
		.kind = object->kind,
		.name = object->name,
		.first = is_run ? (int64_t)first : -1,
		.count = is_run ? (int64_t)count : -1,
		.first_descriptor = first_fd,
		.size = object_has_size(object) ? (int64_t)object->size : -1,
		.attributes = object->attributes,
	};

	return object_description_to_json(&description);
}
