/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events of sessions, told to the peers that called Monitor. */
#include "daemon/monitor.h"

#include <string.h>

#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define PRESENT_AT_ONCE 256 /* events, of some 200 bytes at most */

static json_t *event_to_json(const struct session *session, const char *name)
{
	json_t *event = json_pack("{s:s, s:s, s:I, s:s}", "event", name, "name", session->name,
				  "uid", (json_int_t)session->uid, "state",
				  session_state_name(session_visible_state(session)));

	if (session_is_held(session))
		json_object_set_new(event, "pid", json_integer(session->holder.pid));
	return event;
}

/* Whether it is to be told of that session at all. */
static bool is_meant(const struct peer *peer, const struct session *session)
{
	if (!peer_may_see(peer, session->uid))
		return false;
	return !peer->monitored_name || (strcmp(peer->monitored_name, session->name) == 0 &&
					 peer->monitored_uid == session->uid);
}

static bool watches(const struct peer *peer, const struct session *session)
{
	/* Of one that is to be told as present it hears that first, and what it is by then. */
	bool is_due = session->serial >= peer->present && session->serial < peer->present_end;

	return !is_due && is_meant(peer, session);
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

/* The next of the sessions that were there when it began, so many that others are not kept waiting. */
static json_t *present_events(struct peer *peer)
{
	json_t *events = json_array();
	const struct session *session;

	while (json_array_size(events) < PRESENT_AT_ONCE &&
	       (session = server_next_session(peer->server, peer, peer->present)) &&
	       session->serial < peer->present_end) {
		if (is_meant(peer, session))
			json_array_append_new(events, event_to_json(session, "present"));
		peer->present = session->serial + 1;
	}
	return events;
}

static void tell_present(struct peer *peer)
{
	const struct session *next;
	json_t *answer;

	peer->call.then = tell_present;
	if (peer->writer.bytes)
		return; /* when that is out */
	answer = json_pack("{s:o}", "events", present_events(peer));
	next = server_next_session(peer->server, peer, peer->present);
	peer->call.continues = next && next->serial < peer->present_end;
	if (peer->call.continues) {
		json_object_set_new(answer, "more", json_true());
	} else {
		peer->call.then = NULL;
		peer->present_end = 0;
	}
	peer_stream(peer, answer);
}

void monitor_begin(struct peer *peer)
{
	peer->monitoring = true;
	server_add_monitor(peer->server, peer);
	peer->present = 0;
	peer->present_end = server_next_serial(peer->server);
	tell_present(peer);
}
