/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events of sessions, told to the peers that called Monitor. */
#include "daemon/monitor.h"

#include <string.h>

#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

static json_t *event_to_json(const struct session *session, const char *name)
{
	json_t *event = json_pack("{s:s, s:s, s:I, s:s}", "event", name, "name", session->name,
				  "uid", (json_int_t)session->uid, "state",
				  session_state_name(session_visible_state(session)));

	if (session_is_held(session))
		json_object_set_new(event, "pid", json_integer(session->holder.pid));
	return event;
}

static bool watches(const struct peer *peer, const struct session *session)
{
	if (!peer_may_see(peer, session->uid))
		return false;
	return !peer->monitored_name || (strcmp(peer->monitored_name, session->name) == 0 &&
					 peer->monitored_uid == session->uid);
}

void monitor_tell(const struct session *session, const char *name)
{
	/* A copy, since a peer that does not read may be closed here, and leave the set. */
	g_autoptr(GList) peers = g_hash_table_get_keys(session->server->monitors);

	for (GList *item = peers; item; item = item->next)
		if (watches(item->data, session))
			peer_stream(item->data,
				    json_pack("{s:[o]}", "events", event_to_json(session, name)));
}

void monitor_begin(struct peer *peer)
{
	json_t *events = json_array();
	GHashTableIter iter;
	gpointer session;

	peer->monitoring = true;
	server_add_monitor(peer->server, peer);
	g_hash_table_iter_init(&iter, peer->server->sessions);
	while (g_hash_table_iter_next(&iter, &session, NULL))
		if (watches(peer, session))
			json_array_append_new(events, event_to_json(session, "present"));
	peer_stream(peer, json_pack("{s:o}", "events", events));
}
