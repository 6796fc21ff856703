/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session as onlookers are told of it: daemon/session-json.h. */
#include "daemon/session-json.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "common/table.h"
#include "daemon/fdinfo.h"
#include "daemon/session.h"
#include "daemon/space.h"

#define POLL_MAX 1024 /* at once; no more than RLIMIT_NOFILE, or poll() refuses */

/* The count of an eventfd, in hexadecimal; reading the eventfd would consume it. */
static uint64_t eventfd_pending(int fd)
{
	char count[32];

	return fdinfo_field(fd, "eventfd-count:", count, sizeof(count))
		       ? g_ascii_strtoull(count, NULL, 16)
		       : 0;
}

/* Adds the count of one vector to the sum and, if list is given, its entry. */
static uint64_t add_pending(const struct object *object, guint vector, short readable, uint64_t sum,
			    json_t *list)
{
	int fd = g_array_index(object->fds, int, vector);
	uint64_t count = readable && fd >= 0 ? eventfd_pending(fd) : 0;

	count = MIN(count, (uint64_t)INT64_MAX);
	if (count > 0 && list)
		json_array_append_new(list,
				      json_pack("{s:s, s:I, s:I}", "object", object->name, "vector",
						(json_int_t)vector, "count", (json_int_t)count));
	return sum + MIN(count, (uint64_t)INT64_MAX - sum);
}

uint64_t object_pending(const struct object *object, json_t *list)
{
	struct pollfd polls[POLL_MAX];
	uint64_t sum = 0;

	if (object->kind != OBJECT_EVENTFD)
		return 0;
	/* poll() finds the few that have something, so that thousands of idle ones cost little. */
	for (guint first = 0; first < object->fds->len; first += POLL_MAX) {
		guint n = MIN(object->fds->len - first, POLL_MAX);

		for (guint i = 0; i < n; i++)
			polls[i] = (struct pollfd){g_array_index(object->fds, int, first + i),
						   POLLIN, 0};
		if (poll(polls, n, 0) <= 0)
			continue;
		for (guint i = 0; i < n; i++)
			sum = add_pending(object, first + i, polls[i].revents, sum, list);
	}
	return sum;
}

/* null: it cannot be told what is in an unreadable one. */
static json_t *devices_to_json(const struct session *session)
{
	g_autoptr(GPtrArray) devices = session_devices(session);
	json_t *json;

	if (session->state == SESSION_UNREADABLE)
		return json_null();
	json = json_array();
	for (guint i = 0; i < devices->len; i++)
		json_array_append_new(json, json_string(g_ptr_array_index(devices, i)));
	return json;
}

/* What the orphan work could not do: of the first address space by name; null: nothing. */
static json_t *warning_to_json(const struct session *session)
{
	const struct space_status *first = NULL;
	const char *first_name = NULL;
	unsigned int others = 0;
	GHashTableIter iter;
	gpointer name, value;

	g_hash_table_iter_init(&iter, session->spaces);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		const struct space_status *status = value;

		if (!status->warning)
			continue;
		others += first != NULL;
		if (first && strcmp(name, first_name) > 0)
			continue;
		first = status;
		first_name = name;
	}
	if (!first)
		return session->problem ? json_string(session->problem) : json_null();
	if (others == 0)
		return json_sprintf("address space %s: %s", first_name, first->warning);
	return json_sprintf("address space %s: %s (%u more address space%s a warning)", first_name,
			    first->warning, others, others == 1 ? " has" : "s have");
}

static uint64_t count_mappings(const struct object *table, uint64_t *ret_bytes)
{
	uint64_t count = 0, changes;

	*ret_bytes = 0;
	space_count(g_array_index(table->fds, int, 0), &count, ret_bytes, &changes);
	return count;
}

json_t *session_to_json(struct session *session)
{
	size_t counts[OBJECT_KINDS] = {0};
	uint64_t mappings = 0, bytes = 0, pending = 0;
	json_t *holder = json_null(), *objects = json_array();

	session_note_unit(session);
	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);

		counts[object->kind] += object->held;
		pending += MIN(object_pending(object, NULL), (uint64_t)INT64_MAX - pending);
		if (object->kind == OBJECT_TABLE)
			mappings += count_mappings(object, &bytes);
	}
	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		if (counts[kind] > 0)
			json_array_append_new(objects, json_pack("{s:s, s:I}", "kind",
								 object_kind_name(kind), "count",
								 (json_int_t)counts[kind]));
	if (session_is_held(session))
		holder = json_pack("{s:i, s:s?}", "pid", (int)session->holder.pid, "unit",
				   session->unit);
	return json_pack("{s:s, s:I, s:s, s:o, s:s?, s:o, s:o, s:I, s:I, s:I, s:o}", "name",
			 session->name, "uid", (json_int_t)session->uid, "state",
			 session_state_name(session_visible_state(session)), "holder", holder,
			 "unit", session->unit, "devices", devices_to_json(session), "objects",
			 objects, "mappings", (json_int_t)mappings, "pendingInterrupts",
			 (json_int_t)pending, "ageUsec",
			 (json_int_t)(g_get_monotonic_time() - session->since), "warning",
			 warning_to_json(session));
}

/* CHANGE_PROCESS settles all IOAS at once, so what it found stands under the iommufd's name. */
static const char *iommufd_name(const struct session *session)
{
	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);

		if (object->kind == OBJECT_IOMMUFD)
			return object->name;
	}
	return "";
}

json_t *space_to_json(const struct session *session, const struct object *table)
{
	static const char *const vaddr_names[] = {"valid", "invalid", "unknown"};
	bool is_iommufd = table->attributes.ioas_id >= 0;
	const struct space_status *status = g_hash_table_lookup(
		session->spaces, is_iommufd ? iommufd_name(session) : table->name);
	enum space_vaddr vaddr = status				    ? status->vaddr
				 : session->state == SESSION_ACTIVE ? SPACE_OWNED
								    : SPACE_UNKNOWN;
	uint64_t mappings = 0, bytes = 0;
	json_t *json;

	mappings = count_mappings(table, &bytes);
	json = json_pack("{s:s, s:s, s:I, s:I, s:s, s:s*}", "name", table->name, "backend",
			 is_iommufd ? "iommufd" : "type1", "mappings", (json_int_t)mappings,
			 "bytes", (json_int_t)bytes, "vaddr", vaddr_names[vaddr], "warning",
			 status ? status->warning : NULL);
	if (is_iommufd)
		json_object_set_new(json, "ioasId", json_integer(table->attributes.ioas_id));
	return json;
}

json_t *mapping_to_json(const struct session *session, const struct table_slot *slot)
{
	static const char *const states[] = {"", "mapped", "mapping", "unmapping"};
	static const char *const prots[] = {"none", "read", "write", "read-write"};
	const struct object *object = object_set_find_id(&session->objects, slot->object);
	g_autofree char *iova = g_strdup_printf("0x%" PRIx64, slot->iova);
	g_autofree char *size = g_strdup_printf("0x%" PRIx64, slot->size);
	g_autofree char *offset = g_strdup_printf("0x%" PRIx64, slot->offset);

	return json_pack("{s:s, s:s, s:s, s:s?, s:s, s:s}", "iova", iova, "size", size, "offset",
			 offset, "object", object ? object->name : NULL, "prot",
			 prots[slot->prot & 3], "state", states[slot->state]);
}
