/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods of an onlooker: list, show, mappings, monitor, status. None consumes or changes. */
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/version.h"
#include "daemon/life.h"
#include "daemon/methods.h"
#include "daemon/monitor.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define MAPPINGS_PER_ANSWER 1000
#define POLL_MAX	    1024 /* at once; no more than RLIMIT_NOFILE, or poll() refuses */

/* The count of an eventfd, which /proc tells in hexadecimal; reading the eventfd would consume it. */
static uint64_t eventfd_pending(int fd)
{
	g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", fd);
	g_autofree char *text = NULL;
	const char *line;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	line = strstr(text, "eventfd-count:");
	return line ? g_ascii_strtoull(line + strlen("eventfd-count:"), NULL, 16) : 0;
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

/* Sums up the pending interrupts of an object and, if list is given, appends each vector's. */
static uint64_t object_pending(const struct object *object, json_t *list)
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

static json_t *session_to_json(struct session *session)
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
			space_count(&object->table, &mappings, &bytes);
	}
	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		if (counts[kind] > 0)
			json_array_append_new(objects, json_pack("{s:s, s:I}", "kind",
								 object_kind_name(kind), "count",
								 (json_int_t)counts[kind]));
	if (session->holder.pid > 0)
		holder = json_pack("{s:i, s:s?}", "pid", (int)session->holder.pid, "unit",
				   session->unit);
	return json_pack("{s:s, s:I, s:s, s:o, s:s?, s:o, s:o, s:I, s:I, s:I}", "name",
			 session->name, "uid", (json_int_t)session->uid, "state",
			 session_state_name(session_visible_state(session)), "holder", holder,
			 "unit", session->unit, "devices", devices_to_json(session), "objects",
			 objects, "mappings", (json_int_t)mappings, "pendingInterrupts",
			 (json_int_t)pending, "ageUsec",
			 (json_int_t)(g_get_monotonic_time() - session->since));
}

/* Deaths that the loop has not come to yet: so that all answers tell of one and the same state. */
static void notice_deaths(const struct server *server)
{
	GHashTableIter iter;
	gpointer item;

	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &item, NULL)) {
		struct session *session = item;

		if (!session->busy)
			session_holder_lives(session);
	}
}

void method_list(struct peer *peer)
{
	json_t *sessions;
	GHashTableIter iter;
	gpointer item;

	if (!method_unpack(peer, "{!}"))
		return;
	notice_deaths(peer->server);
	sessions = json_array();
	g_hash_table_iter_init(&iter, peer->server->sessions);
	while (g_hash_table_iter_next(&iter, &item, NULL)) {
		struct session *session = item;

		if (peer_may_see(peer, session->uid))
			json_array_append_new(sessions, session_to_json(session));
	}
	peer_reply(peer, json_pack("{s:o}", "sessions", sessions), NULL, 0);
}

static json_t *space_to_json(const struct session *session, const struct object *table)
{
	static const char *const vaddr_names[] = {"valid", "invalid", "unknown"};
	bool is_iommufd = table->attributes.ioas_id >= 0;
	const struct space_status *status = g_hash_table_lookup(
		session->spaces,
		is_iommufd ? "iommufd" : table->name); /* CHANGE_PROCESS settles all IOAS at once */
	enum space_vaddr vaddr = status				    ? status->vaddr
				 : session->state == SESSION_ACTIVE ? SPACE_VALID
								    : SPACE_UNKNOWN;
	uint64_t mappings = 0, bytes = 0;
	json_t *json;

	space_count(&table->table, &mappings, &bytes);
	json = json_pack("{s:s, s:s, s:I, s:I, s:s, s:s*}", "name", table->name, "backend",
			 is_iommufd ? "iommufd" : "type1", "mappings", (json_int_t)mappings,
			 "bytes", (json_int_t)bytes, "vaddr", vaddr_names[vaddr], "warning",
			 status ? status->warning : NULL);
	if (is_iommufd)
		json_object_set_new(json, "ioasId", json_integer(table->attributes.ioas_id));
	return json;
}

void method_show(struct peer *peer)
{
	const char *name;
	json_t *owner = NULL;
	json_t *objects, *spaces, *pending;
	struct session *session;

	if (!method_unpack(peer, "{s:s, s?o !}", "name", &name, "uid", &owner))
		return;
	session = method_find_session(peer, name, owner);
	if (!session)
		return;
	if (!session->busy)
		session_holder_lives(session);
	if (session->busy) {
		session_wait(session, peer, method_show);
		return;
	}
	objects = json_array();
	spaces = json_array();
	pending = json_array();
	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);
		size_t run;

		for (size_t at = 0; at < object->fds->len; at += MAX(run, 1)) {
			run = object_run(object, at);
			if (run > 0)
				json_array_append_new(objects, object_to_json(object, at, run, -1));
		}
		object_pending(object, pending);
		if (object->kind == OBJECT_TABLE)
			json_array_append_new(spaces, space_to_json(session, object));
	}
	peer_reply(peer,
		   json_pack("{s:o, s:o, s:o, s:o}", "session", session_to_json(session), "objects",
			     objects, "spaces", spaces, "pending", pending),
		   NULL, 0);
}

static json_t *mapping_to_json(const struct session *session, const struct table_slot *slot)
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

void method_mappings(struct peer *peer)
{
	const char *name, *space;
	json_int_t cursor = 0;
	json_t *owner = NULL;
	const struct object *table;
	struct session *session;
	struct table_slot slot;
	json_t *mappings, *reply;
	uint32_t i;

	if (!method_unpack(peer, "{s:s, s?o, s:s, s?I !}", "name", &name, "uid", &owner, "space",
			   &space, "cursor", &cursor))
		return;
	session = method_find_session(peer, name, owner);
	if (!session)
		return;
	table = object_set_find(&session->objects, OBJECT_TABLE, space);
	if (!table || cursor < 0) {
		peer_fail(peer, "NoSuchObject", 0,
			  "session %s has no address space %s (at %" PRId64 ")", name, space,
			  (int64_t)cursor);
		return;
	}
	mappings = json_array();
	for (i = MIN(cursor, TABLE_MAX_SLOTS);
	     i < table_used(&table->table) && json_array_size(mappings) < MAPPINGS_PER_ANSWER; i++)
		if (table_read(&table->table, i, &slot) > 0)
			json_array_append_new(mappings, mapping_to_json(session, &slot));
	reply = json_pack("{s:o}", "mappings", mappings);
	if (i < table_used(&table->table))
		json_object_set_new(reply, "next", json_integer(i));
	peer_reply(peer, reply, NULL, 0);
}

void method_monitor(struct peer *peer)
{
	const char *name = NULL;
	json_t *owner = NULL;
	uid_t uid = peer->uid;

	if (!method_unpack(peer, "{s?s, s?o !}", "name", &name, "uid", &owner))
		return;
	if (!peer->call.more) {
		peer_fail_service(peer, "ExpectedMore", json_object());
		return;
	}
	if (!method_owner(peer, owner, &uid))
		return;
	if (name && !*name) {
		peer_invalid(peer, "name", "no session has an empty name: leave it out for all");
		return;
	}
	peer->monitored_name = g_strdup(name);
	peer->monitored_uid = uid;
	notice_deaths(peer->server);
	if (peer->socket >= 0) /* else it was the connection of one who died, used by another */
		monitor_begin(peer);
}

void method_status(struct peer *peer)
{
	const struct server *server = peer->server;
	const char *warning = server_warning(server);

	if (!method_unpack(peer, "{!}"))
		return;
	notice_deaths(server);
	peer_reply(peer,
		   json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:b, s:s*}", "version",
			     VFIO_CPRD_VERSION, "pid", (int)getpid(), "sessions",
			     (json_int_t)g_hash_table_size(server->sessions), "orphans",
			     (json_int_t)server_orphans(server), "descriptors",
			     (json_int_t)server_descriptors(server), "descriptorLimit",
			     (json_int_t)server->descriptor_limit, "survivesRestart",
			     !server_loss(server), "warning", warning),
		   NULL, 0);
}
