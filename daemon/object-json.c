/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects as they stand on the wire (type Object of io.vfiocpr.Session): parsed, checked, written. */
#include <inttypes.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "common/frame.h"
#include "common/uapi.h"
#include "daemon/call.h"
#include "daemon/identify.h"
#include "daemon/object.h"
#include "daemon/worker.h"

#define NAME_MAX_BYTES	 255
#define OBJECT_MAX_SLOTS 65536	    /* descriptors of one object; MSI-X has 2048 vectors */
#define OBJECT_MAX_ID	 UINT32_MAX /* a table's slot has room for that */
#define STATE_MAX_BYTES	 (16 * 1024 * 1024)

/* A name that is safe in a log and on a terminal. jansson has checked that it is UTF-8. */
static bool name_is_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > NAME_MAX_BYTES)
		return false;
	for (const char *p = name; *p; p = g_utf8_next_char(p))
		if (g_unichar_iscntrl(g_utf8_get_char(p)))
			return false;
	return true;
}

/* What the object is for the kernel must fit what it is for its owner. */
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

/* Checks each descriptor, maps a table, seals a memfd and notes sizes. */
static char *check_descriptors(struct object *object)
{
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
	if (object->kind != OBJECT_MEMORY && object->kind != OBJECT_TABLE &&
	    object->kind != OBJECT_STATE)
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
	    table_open(g_array_index(object->fds, int, 0), false, &object->table) < 0)
		return g_strdup_printf("table %s is no mapping table of version %d, sealed against "
				       "shrinking and growing: use one made by libvfio-cpr",
				       object->name, TABLE_VERSION);
	return NULL;
}

/* Moves the run's descriptors out of the message. */
static char *take_descriptors(struct object *object, int64_t first, int64_t count, int64_t index,
			      struct fdlist *fds, const char **ret_parameter)
{
	static const int gap = -1;

	*ret_parameter = "count";
	if (first < 0 || count < 1 || first > OBJECT_MAX_SLOTS || count > OBJECT_MAX_SLOTS ||
	    first + count > OBJECT_MAX_SLOTS)
		return g_strdup_printf("first %" PRId64 " and count %" PRId64
				       " must be a run within 0..%d",
				       first, count, OBJECT_MAX_SLOTS - 1);
	*ret_parameter = "firstFileDescriptor";
	if (index < 0 || index > FRAME_MAX_FDS || (size_t)(index + count) > fds->n)
		return g_strdup_printf("%" PRId64 " descriptors from %" PRId64
				       " on are named, but %zu came with the message",
				       count, index, fds->n);
	for (int64_t i = 0; i < first; i++)
		g_array_append_val(object->fds, gap);
	for (int64_t i = 0; i < count; i++) {
		int fd = fdlist_take(fds, index + i);

		if (fd < 0)
			return g_strdup_printf("descriptor %" PRId64 " is named twice", index + i);
		g_array_append_val(object->fds, fd);
		object->held++;
	}
	return NULL;
}

/* Nothing has come of it: its descriptors are its sender's business again. */
static void give_back(struct object *object, struct fdlist *fds)
{
	object_take_all(object, fds);
	object_free(object);
}

/* Parses the description and moves its descriptors; what they are is not looked at. */
static struct object *parse(json_t *json, struct fdlist *fds, size_t *used, json_int_t *ret_size,
			    const char **ret_parameter, char **ret_message)
{
	struct object *object = g_new0(struct object, 1);
	const char *kind_name = "", *name = "", *space = NULL, *device = NULL;
	json_int_t id = 0, first = 0, count = 1, index = -1, irq_index = -1;
	json_int_t irq_action = -1, devid = -1, ioas_id = -1, hwpt_id = -1;
	json_error_t error;
	g_autofree char *field = NULL;
	char *message = NULL;
	int kind = -1;

	object->fds = g_array_new(FALSE, FALSE, sizeof(int));
	*ret_parameter = "objects";
	if (json_unpack_ex(
		    json, &error, 0,
		    "{s:I, s:s, s:s, s?I, s?I, s?I, s?s, s?s, s?I, s?I, s?I, s?I, s?I, s?I !}",
		    "id", &id, "kind", &kind_name, "name", &name, "first", &first, "count", &count,
		    "firstFileDescriptor", &index, "space", &space, "device", &device, "irqIndex",
		    &irq_index, "irqAction", &irq_action, "devid", &devid, "ioasId", &ioas_id,
		    "hwptId", &hwpt_id, "size", ret_size) < 0)
		message = call_explain(&error, &field);
	else if ((kind = object_kind_from_name(kind_name)) < 0)
		message = g_strdup_printf("kind \"%s\" is unknown", kind_name);
	else if (!name_is_valid(name) || (space && !name_is_valid(space)) ||
		 (device && !name_is_valid(device)))
		message = g_strdup("names are 1 to 255 bytes without control characters");
	else if (id < 1 || id > OBJECT_MAX_ID)
		message = g_strdup_printf("id %" JSON_INTEGER_FORMAT " is outside of 1..%u", id,
					  OBJECT_MAX_ID);
	if (!message) {
		object->id = id;
		object->kind = kind;
		object->name = g_strdup(name);
		object->attributes = (struct object_attributes){
			.space = g_strdup(space),
			.device = g_strdup(device),
			.irq_index = irq_index,
			.irq_action = irq_action,
			.devid = devid,
			.ioas_id = ioas_id,
			.hwpt_id = hwpt_id,
		};
		message = take_descriptors(object, first, count, index, fds, ret_parameter);
	}
	if (!message)
		message = check_attributes(object, ret_parameter);
	if (!message) {
		*used += count;
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
	json_int_t size;
	struct object *object = parse(json, fds, used, &size, &parameter, ret_message);

	*ret_refused = false;
	if (object) {
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
	json_int_t size = 0;
	struct object *object = parse(json, fds, used, &size, &parameter, ret_message);

	if (object && object->kind == OBJECT_TABLE &&
	    table_open(g_array_index(object->fds, int, 0), false, &object->table) < 0) {
		*ret_message = g_strdup_printf("table %s cannot be mapped", object->name);
		g_clear_pointer(&object, object_free);
	}
	if (object)
		object->size = size;
	else
		*ret_parameter = g_strdup(parameter);
	return object;
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

json_t *object_to_json(const struct object *object, size_t first, size_t count, int first_fd)
{
	const struct object_attributes *attributes = &object->attributes;
	json_t *json = json_pack("{s:I, s:s, s:s}", "id", (json_int_t)object->id, "kind",
				 object_kind_name(object->kind), "name", object->name);

	if (object->kind == OBJECT_EVENTFD) {
		set_integer(json, "first", first);
		set_integer(json, "count", count);
	}
	set_integer(json, "firstFileDescriptor", first_fd);
	set_string(json, "space", attributes->space);
	set_string(json, "device", attributes->device);
	set_integer(json, "irqIndex", attributes->irq_index);
	set_integer(json, "irqAction", attributes->irq_action);
	set_integer(json, "devid", attributes->devid);
	set_integer(json, "ioasId", attributes->ioas_id);
	set_integer(json, "hwptId", attributes->hwpt_id);
	if (object->kind == OBJECT_MEMORY || object->kind == OBJECT_TABLE ||
	    object->kind == OBJECT_STATE)
		set_integer(json, "size", object->size);
	return json;
}
