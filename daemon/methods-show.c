/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Show: a page of what one session holds, in the order of storing. A cursor is the serial of an
 * object and the number of a descriptor in it, so it still means the same when others are gone. A
 * call may take several turns, and the session may change or end between them, so that each turn
 * finds it anew.
 */
#include "daemon/counting.h"
#include "daemon/life.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/pending.h"
#include "daemon/session-json.h"
#include "daemon/session.h"
#include "daemon/survey.h"

#define COST_OF_ANSWER 24576 /* in all turns, see daemon/survey.h: beyond it the page ends */
#define COST_OF_ENTRY  24    /* to put something into words */
#define BYTES_OF_COST  16    /* and so many bytes of that cost 1 */
#define VECTOR_BITS    17    /* of a cursor: an object has at most 2^16 descriptors */

struct show {
	uint64_t session; /* its serial */
	bool counted, looked;
	uint64_t object; /* the serial of the one to go on with */
	guint vector;	 /* and of its descriptors */
	GString *objects, *spaces, *pending;
	unsigned int cost;
	struct survey survey;
};

static void show_free(void *state)
{
	struct show *show = state;

	survey_clear(&show->survey);
	g_string_free(show->objects, TRUE);
	g_string_free(show->spaces, TRUE);
	g_string_free(show->pending, TRUE);
	g_free(show);
}

/* The call's state; made anew if it was for another session of that name, which is gone. */
static struct show *state_of(struct peer *peer, const struct session *session, json_int_t cursor)
{
	struct show *show = peer->call.state;

	if (show && show->session == session->serial)
		return show;
	if (show)
		show_free(show);
	show = g_new0(struct show, 1);
	show->session = session->serial;
	/* Going on with a page, the summary is that of the first one. */
	show->looked = cursor > 0 && session->summary.is_known;
	show->object = (uint64_t)cursor >> VECTOR_BITS;
	show->vector = cursor & ((1U << VECTOR_BITS) - 1);
	show->objects = g_string_new(NULL);
	show->spaces = g_string_new(NULL);
	show->pending = g_string_new(NULL);
	peer->call.state = show;
	peer->call.free_state = show_free;
	return show;
}

static size_t bytes_of(const struct show *show)
{
	return show->objects->len + show->spaces->len + show->pending->len;
}

static bool is_full(const struct show *show)
{
	return bytes_of(show) >= METHOD_PAGE_BYTES || show->cost >= COST_OF_ANSWER;
}

/* Adds to one of the arrays. */
static void add(struct show *show, GString *array, json_t *item)
{
	size_t before = array->len;

	method_add(array, item);
	show->cost += COST_OF_ENTRY + (unsigned int)(array->len - before) / BYTES_OF_COST;
}

/* One descriptor: the run of those that it begins, and what waits in it. */
static void add_vector(struct show *show, const struct object *object, guint vector, uint64_t count)
{
	bool begins = vector == 0 || g_array_index(object->fds, int, vector - 1) < 0;
	size_t run = begins ? object_run(object, vector) : 0;

	if (run > 0)
		add(show, show->objects, object_to_json(object, vector, run, -1));
	if (count > 0)
		add(show, show->pending,
		    json_pack("{s:s, s:I, s:I}", "object", object->name, "vector",
			      (json_int_t)vector, "count", (json_int_t)count));
}

static void add_eventfds(struct show *show, const struct object *object)
{
	uint64_t counts[PENDING_AT_ONCE];
	const int *fds = &g_array_index(object->fds, int, show->vector);
	guint n = MIN(object->fds->len - show->vector, PENDING_AT_ONCE);

	pending_look(fds, n, counts, &show->cost);
	for (guint i = 0; i < n && bytes_of(show) < METHOD_PAGE_BYTES; i++) {
		add_vector(show, object, show->vector, counts[i]);
		show->vector++;
	}
}

/* Goes on with the object. true: all of it is told. */
static bool add_object(struct show *show, const struct session *session,
		       const struct object *object)
{
	if (object->kind == OBJECT_EVENTFD && show->vector < object->fds->len) {
		add_eventfds(show, object);
		return show->vector >= object->fds->len;
	}
	if (object->kind != OBJECT_EVENTFD && show->vector == 0)
		add_vector(show, object, 0, 0);
	if (object->kind == OBJECT_TABLE)
		add(show, show->spaces, space_to_json(session, object));
	return true;
}

/* One turn's part of the page. true: the page is full, or all is told, and *ret_next 0 then. */
static bool add_objects(struct show *show, const struct session *session, json_int_t *ret_next)
{
	const GPtrArray *objects = session->objects.objects;
	unsigned int begun = show->cost;
	guint i = object_set_index(&session->objects, show->object);

	while (i < objects->len) {
		const struct object *object = g_ptr_array_index(objects, i);

		if (object->serial != show->object)
			show->vector = 0;
		show->object = object->serial;
		*ret_next = (json_int_t)(show->object << VECTOR_BITS | show->vector);
		if (is_full(show))
			return true;
		if (show->cost - begun >= SURVEY_COST_OF_TURN)
			return false;
		if (add_object(show, session, object)) {
			show->object++;
			show->vector = 0;
			i++;
		}
	}
	*ret_next = 0;
	return true;
}

/* Also those who have waited for the session: they do not all go on at once. */
static void show_in_turn(struct peer *peer)
{
	peer->call.then = method_show;
	peer_go_on_in_turn(peer);
}

/* The session that is meant, not busy. NULL: the peer has its answer, or waits. */
static struct session *find(struct peer *peer, json_int_t *ret_cursor)
{
	const char *name;
	json_t *owner = NULL;
	struct session *session;

	*ret_cursor = 0;
	if (!method_unpack(peer, "{s:s, s?o, s?I !}", "name", &name, "uid", &owner, "cursor",
			   ret_cursor) ||
	    !method_cursor(peer, *ret_cursor))
		return NULL;
	session = method_find_session(peer, name, owner);
	if (!session)
		return NULL;
	if (!session->busy)
		session_holder_lives(session);
	if (peer->socket < 0)
		return NULL; /* it was the connection of one who died, used by another */
	if (session->busy) {
		session_wait(session, peer, show_in_turn);
		return NULL;
	}
	return session;
}

static bool wait_for_counts(struct peer *peer, struct session *session)
{
	g_autoptr(GPtrArray) sessions = g_ptr_array_new();

	g_ptr_array_add(sessions, session);
	return counting_wait(peer, sessions, method_show);
}

/* Whether it can be answered; else the call goes on later, at method_show() again. */
static bool make_page(struct peer *peer, struct show *show, struct session *session,
		      json_int_t *ret_next)
{
	unsigned int cost = 0;

	if (!show->counted) {
		show->counted = true;
		if (wait_for_counts(peer, session))
			return false;
	}
	show->looked = show->looked || survey_on(&show->survey, session, &cost);
	if (show->looked && cost < SURVEY_COST_OF_TURN && add_objects(show, session, ret_next))
		return true;
	show_in_turn(peer);
	return false;
}

static void reply(struct peer *peer, const struct show *show, struct session *session,
		  json_int_t next)
{
	g_autoptr(GString) text = g_string_new(NULL);

	method_add(text, session_to_json(session));
	if (text->len == 0) {
		peer_reply_text(peer, NULL);
		return;
	}
	g_string_prepend(text, "{\"session\":");
	method_add_array(text, "objects", show->objects);
	method_add_array(text, "spaces", show->spaces);
	method_add_array(text, "pending", show->pending);
	method_add_next(text, next);
	peer_reply_text(peer, text->str);
}

void method_show(struct peer *peer)
{
	json_int_t cursor, next = 0;
	struct session *session = find(peer, &cursor);
	struct show *show;

	if (!session)
		return;
	show = state_of(peer, session, cursor);
	if (!make_page(peer, show, session, &next))
		return;
	reply(peer, show, session, next);
}
