/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects as they stand on the wire (type Object of io.vfiocpr.Session): parsed, checked, written. */
#include <inttypes.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "common/table.h"
#include "common/uapi.h"
#include "daemon/identify.h"
#include "daemon/object.h"
#include "daemon/worker.h"

/* Whether the attributes suit the kind: a device needs the space that it is in, and so on. */
static char *check_attributes(const struct object *object, const char **ret_parameter)
{
	bool single = object->kind != OBJECT_EVENTFD;

	*ret_parameter = "count";
	if (single && object->fds->len != 1)
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

/* Whether the object is a file, whose length is told. */
static bool has_size(const struct object *object)
{
	return object->kind == OBJECT_MEMORY || object->kind == OBJECT_TABLE ||
	       object->kind == OBJECT_STATE;
}

/* Checks each descriptor, and a table's header, seals a memfd and notes sizes. */
static char *check_descriptors(struct object *object)
{
	uint32_t slots;
	struct stat st;

	for (guint i = 0; i < object->fds->len; i++) {
		int fd = g_array_index(object->fds, int, i);
		char *refusal;

		if (fd < 0)
			continue;
		refusal = identify_refusal(fd, object->kind, object->name);
		if (refusal)
			return refusal;
	}
	if (!has_size(object))
		return NULL;

	/* shmem or hugetlbfs, as identify has seen: fstat() cannot hang. */
	if (fstat(g_array_index(object->fds, int, 0), &st) < 0)
		return g_strdup_printf("cannot stat %s %s: %s", object_kind_name(object->kind),
				       object->name, g_strerror(errno));
	object->size = st.st_size;
	if (object->kind == OBJECT_MEMORY)
		/* EPERM: sealed against seals, or a tmpfs file. Its owner was told (a blocker). */
		(void)fcntl(g_array_index(object->fds, int, 0), F_ADD_SEALS, F_SEAL_SHRINK);
	if (object->kind == OBJECT_STATE && object->size > STATE_MAX_BYTES)
		return g_strdup_printf("state %s has %" PRIu64
				       " bytes, over %d: keep it in memory of "
				       "the session",
				       object->name, object->size, STATE_MAX_BYTES);
	if (object->kind == OBJECT_TABLE &&
	    table_check(g_array_index(object->fds, int, 0), &slots) < 0)
		return g_strdup_printf("table %s is no mapping table of version %d, sealed against "
				       "shrinking and growing: use one made by libvfio-cpr",
				       object->name, TABLE_VERSION);
	return NULL;
}

/* Moves the run's descriptors out of the message. */
static char *take_descriptors(struct object *object, const struct object_description *description,
			      struct fdlist *fds)
{
	static const int gap = -1;

	for (int64_t i = 0; i < description->first; i++)
		g_array_append_val(object->fds, gap);
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

/* Parses the description and moves its descriptors; what they are is not looked at. */
static struct object *parse(json_t *json, struct fdlist *fds, size_t *used,
			    const char **ret_parameter, char **ret_message)
{
	struct object_description description = {0};
	struct object *object;
	char *message;

	message = object_description_parse(json, true, fds->n, &description, ret_parameter);
	if (message) {
		*ret_message = message;
		return NULL;
	}
	object = g_new0(struct object, 1);
	object->id = description.id;
	object->kind = description.kind;
	object->name = object_spell(description.kind, description.name);
	object->size = MAX(description.size, 0);
	object->attributes = object_attributes_copy(&description.attributes);
	if (object->attributes.device) {
		g_free(object->attributes.device);
		object->attributes.device =
			object_spell(OBJECT_DEVICE, description.attributes.device);
	}
	object->fds = g_array_new(FALSE, FALSE, sizeof(int));
	*ret_parameter = "firstFileDescriptor";
	message = take_descriptors(object, &description, fds);
	if (!message)
		message = check_attributes(object, ret_parameter);
	if (!message) {
		*used += description.count;
		return object;
	}
	give_back(object, fds);
	*ret_message = message;
	return NULL;
}

struct object *object_from_json(json_t *json, struct fdlist *fds, size_t *used,
				char **ret_parameter, char **ret_message, bool *ret_refused)
{
	const char *parameter;
	struct object *object = parse(json, fds, used, &parameter, ret_message);

	*ret_refused = false;
	if (object) {
		object->size = 0; /* is told by the daemon, and not taken from a peer */
		*ret_message = check_descriptors(object);
		if (!*ret_message)
			return object;
		*ret_refused = true;
		give_back(object, fds);
	}
	*ret_parameter = g_strdup(parameter);
	return NULL;
}

struct object *object_from_record(json_t *json, struct fdlist *fds, size_t *used,
				  char **ret_parameter, char **ret_message)
{
	const char *parameter;
	struct object *object = parse(json, fds, used, &parameter, ret_message);

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
		.size = has_size(object) ? (int64_t)object->size : -1,
		.attributes = object->attributes,
	};

	return object_description_to_json(&description);
}
