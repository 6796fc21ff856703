/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session as onlookers are told of it: daemon/session-json.h. */
#include "daemon/session-json.h"

#include <inttypes.h>
#include <string.h>

#include "common/table.h"
#include "daemon/owed.h"
#include "daemon/session.h"
#include "daemon/tally.h"

static gint compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* null: it cannot be told what is in an unreadable one. */
static json_t *devices_to_json(const struct session *session)
{
	GPtrArray *devices = session->summary.devices;
	json_t *json;

	if (session->state == SESSION_UNREADABLE)
		return json_null();
	json = json_array();
	if (devices)
		g_ptr_array_sort(devices, compare_names);
	for (guint i = 0; devices && i < devices->len; i++)
		json_array_append_new(json, json_string(g_ptr_array_index(devices, i)));
	return json;
}

/*
 * What the orphan work could not do: of the first address space by name. Or what systemd has yet to
 * do. null: nothing.
 */
static json_t *warning_to_json(const struct session *session)
{
	const char *owed = session->debt.owed ? owed_why(session->debt.owed) : NULL;
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
		return session->problem ? json_string(session->problem)
		       : owed		? json_string(owed)
					: json_null();
	if (others == 0)
		return json_sprintf("address space %s: %s", first_name, first->warning);
	return json_sprintf("address space %s: %s (%u more address space%s a warning)", first_name,
			    first->warning, others, others == 1 ? " has" : "s have");
}

/* Over all its address spaces, as last counted. */
static uint64_t mappings_of(const struct session *session)
{
	uint64_t mappings = 0;

	for (guint i = 0; i < session->objects.tables->len; i++) {
		const struct object *table = g_ptr_array_index(session->objects.tables, i);

		mappings += table->tally->mappings;
	}
	return mappings;
}

json_t *session_to_json(struct session *session)
{
	const size_t *held = session->objects.held;
	json_t *holder = json_null(), *objects = json_array();

	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		if (held[kind] > 0)
			json_array_append_new(objects, json_pack("{s:s, s:I}", "kind",
								 object_kind_name(kind), "count",
								 (json_int_t)held[kind]));
	if (session_is_held(session))
		holder = json_pack("{s:i, s:s?}", "pid", (int)session->holder.pid, "unit",
				   session->unit);
	return json_pack("{s:s, s:I, s:s, s:o, s:s?, s:o, s:o, s:I, s:I, s:I, s:o}", "name",
			 session->name, "uid", (json_int_t)session->uid, "state",
			 session_state_name(session_visible_state(session)), "holder", holder,
			 "unit", session->unit, "devices", devices_to_json(session), "objects",
			 objects, "mappings", (json_int_t)mappings_of(session), "pendingInterrupts",
			 (json_int_t)session->summary.pending, "ageUsec",
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
	json_t *json;

	json = json_pack("{s:s, s:s, s:I, s:I, s:s, s:s*}", "name", table->name, "backend",
			 is_iommufd ? "iommufd" : "type1", "mappings",
			 (json_int_t)table->tally->mappings, "bytes",
			 (json_int_t)table->tally->bytes, "vaddr", vaddr_names[vaddr], "warning",
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
