/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * List: a page of sessions, in the order in which they came to be, so that a cursor still means the
 * same when others have come and gone. First their tables are counted, then each is looked at, in
 * several turns if there is much to look at.
 */
#include "daemon/counting.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session-json.h"
#include "daemon/session.h"
#include "daemon/survey.h"

#define SESSIONS_PER_ANSWER 256
#define COST_OF_SESSION	    32 /* to tell it, besides what it holds: see daemon/survey.h */

struct list {
	uint64_t next; /* serial of the session to go on with */
	GString *sessions;
	guint n;
	struct survey survey;
};

static void list_free(void *state)
{
	struct list *list = state;

	survey_clear(&list->survey);
	g_string_free(list->sessions, TRUE);
	g_free(list);
}

static void reply(struct peer *peer, struct list *list)
{
	const struct session *session = server_next_session(peer->server, peer, list->next);
	g_autoptr(GString) text = g_string_new("{");

	method_add_array(text, "sessions", list->sessions);
	method_add_next(text, session ? (json_int_t)session->serial : 0);
	peer_reply_text(peer, text->str);
}

static void list_on(struct peer *peer)
{
	struct list *list = peer->call.state;
	struct session *session;
	unsigned int cost = 0;

	while (list->sessions->len < METHOD_PAGE_BYTES && list->n < SESSIONS_PER_ANSWER &&
	       (session = server_next_session(peer->server, peer, list->next))) {
		if (cost >= SURVEY_COST_OF_TURN || !survey_on(&list->survey, session, &cost)) {
			peer->call.then = list_on;
			peer_go_on_in_turn(peer);
			return;
		}
		cost += COST_OF_SESSION;
		list->next = session->serial + 1;
		method_add(list->sessions, session_to_json(session));
		list->n++;
	}
	reply(peer, list);
}

/* The sessions that the page may have. */
static GPtrArray *sessions_from(const struct peer *peer, uint64_t serial)
{
	GPtrArray *sessions = g_ptr_array_new();
	struct session *session;

	while (sessions->len < SESSIONS_PER_ANSWER &&
	       (session = server_next_session(peer->server, peer, serial))) {
		g_ptr_array_add(sessions, session);
		serial = session->serial + 1;
	}
	return sessions;
}

void method_list(struct peer *peer)
{
	g_autoptr(GPtrArray) sessions = NULL;
	json_int_t cursor = 0;
	struct list *list;

	if (!method_unpack(peer, "{s?I !}", "cursor", &cursor) || !method_cursor(peer, cursor))
		return;
	method_notice_deaths(peer->server);
	if (peer->socket < 0)
		return;
	list = g_new0(struct list, 1);
	list->next = cursor;
	list->sessions = g_string_new(NULL);
	peer->call.state = list;
	peer->call.free_state = list_free;
	sessions = sessions_from(peer, list->next);
	if (!counting_wait(peer, sessions, list_on))
		list_on(peer);
}
