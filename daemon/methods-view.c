/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods of an onlooker: list, show, mappings, monitor, status. None consumes or changes. */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "common/version.h"
#include "daemon/account.h"
#include "daemon/life.h"
#include "daemon/methods.h"
#include "daemon/monitor.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session-json.h"
#include "daemon/session.h"
#include "daemon/tableread.h"

#define MAPPINGS_PER_ANSWER 1000

/*
 * Handles the deaths that the loop has not come to yet, so that every answer after this one tells
 * of the same states.
 */
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

void method_mappings(struct peer *peer)
{
	const char *name, *space;
	json_int_t cursor = 0;
	json_t *owner = NULL;
	const struct object *table;
	struct session *session;
	struct table_slot slot;
	json_t *mappings, *reply;
	struct table_reader reader;

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
	if (table_reader_begin(&reader, g_array_index(table->fds, int, 0)) < 0)
		reader.used = 0;
	reader.next = MIN(cursor, TABLE_MAX_SLOTS);
	while (json_array_size(mappings) < MAPPINGS_PER_ANSWER &&
	       table_reader_next(&reader, UINT32_MAX, &slot) > 0)
		json_array_append_new(mappings, mapping_to_json(session, &slot));
	reply = json_pack("{s:o}", "mappings", mappings);
	if (reader.next < reader.used)
		json_object_set_new(reply, "next", json_integer(reader.next));
	peer_reply(peer, reply, NULL, 0);
}

void method_monitor(struct peer *peer)
{
	g_autofree char *quota = NULL;
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
	quota = account_refuse_monitor(peer->account);
	if (quota) {
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", quota);
		return;
	}
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
