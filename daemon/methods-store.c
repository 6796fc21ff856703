/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects into a session: store. They are staged, checked, kept, and then the session's. */
#include <errno.h>

#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/look.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define OBJECTS_OF_TURN 32 /* that are read from a message, or staged, some 0.1 or 0.2 ms */

/* How far a message is read. */
struct receiving {
	json_t *objects; /* the call's */
	size_t next, used;
};

static bool receive_object(struct call *call, struct receiving *receiving,
			   const char **ret_parameter, char **ret_message)
{
	json_t *json = json_array_get(receiving->objects, receiving->next);
	struct object *object =
		object_from_json(json, &call->fds, &receiving->used, ret_parameter, ret_message);

	if (!object)
		return false;
	receiving->next++;
	look_add(call->look, object);
	return true;
}

static bool is_received(const struct receiving *receiving)
{
	return receiving->next == json_array_size(receiving->objects);
}

/* One turn's part of the message. false: an error has been answered. */
static bool receive_some(struct peer *peer, struct receiving *receiving)
{
	for (int i = 0; i < OBJECTS_OF_TURN && !is_received(receiving); i++) {
		g_autofree char *message = NULL;
		const char *parameter;

		if (!receive_object(&peer->call, receiving, &parameter, &message)) {
			peer_invalid(peer, parameter, message);
			return false;
		}
	}
	if (is_received(receiving) && receiving->used != peer->call.fds.n) {
		peer_invalid(peer, "objects",
			     "there came more descriptors than the objects name: name each once");
		return false;
	}
	return true;
}

/* false: an error has been answered. */
static bool stage_object(struct peer *peer, struct object *object)
{
	g_autofree char *conflict = object_set_conflict(&peer->staged, object);

	if (conflict) {
		object_free(object);
		peer_fail(peer, "AlreadyExists", EEXIST, "%s", conflict);
		return false;
	}
	object_set_add(&peer->staged, object);
	if (object_set_slots(&peer->staged) > OBJECT_MAX_FDS) {
		peer_fail(peer, "QuotaExceeded", EDQUOT,
			  "a batch has at most %d descriptors, gaps included: store in several",
			  OBJECT_MAX_FDS);
		return false;
	}
	return true;
}

/*
 * Takes some of what was looked at into the staging area. 1: that was all; 0: not yet. Negative: an
 * error has been answered.
 */
static int stage_some(struct peer *peer)
{
	const char *refusal = look_refusal(peer->call.look);

	if (refusal) {
		peer_fail(peer, "Refused", EINVAL, "%s", refusal);
		return -EINVAL;
	}
	for (int i = 0; i < OBJECTS_OF_TURN; i++) {
		struct object *object = look_take(peer->call.look);

		if (!object)
			return 1;
		if (!stage_object(peer, object))
			return -EINVAL;
	}
	return 0;
}

/* Whether the user may have what is held and staged. false: an error has been answered. */
static bool is_allowed(struct peer *peer, const struct session *session)
{
	g_autofree char *refusal =
		account_refuse_descriptors(session->account, peer->server->descriptor_limit);

	if (refusal)
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", refusal);
	return !refusal;
}

static void drop_staged(struct peer *peer)
{
	object_set_clear(&peer->staged);
	if (peer->socket >= 0) /* else it has none any more */
		object_set_init(&peer->staged, peer->account);
}

/* The session, as method_held_session() has it. Without one nothing can be staged. */
static struct session *held_session(struct peer *peer, void (*then)(struct peer *peer))
{
	if (!peer->session)
		drop_staged(peer);
	return method_held_session(peer, then);
}

/* The message was looked at. Meanwhile the session may have gone, or become busy. */
static void go_on_storing(struct peer *peer)
{
	struct session *session = held_session(peer, go_on_storing);
	int r;

	if (!session)
		return;
	r = stage_some(peer);
	if (r == 0) {
		peer->call.then = go_on_storing;
		peer_go_on_in_turn(peer);
	} else if (r < 0 || !is_allowed(peer, session)) {
		drop_staged(peer);
	} else if (json_is_true(json_object_get(peer->call.parameters, "continues"))) {
		peer_reply(peer, json_object(), NULL, 0);
	} else {
		method_take_in(peer, session);
	}
}

static void on_looked(void *data)
{
	struct peer *peer = data;

	peer_go_on(peer);
	peer_unref(peer);
}

/* All of the message is read, and its eventfds are known. */
static void look_on(struct peer *peer)
{
	peer->call.then = go_on_storing;
	peer_ref(peer);
	if (look_begin(peer->call.look, on_looked, peer))
		on_looked(peer);
}

static void receive_on(struct peer *peer)
{
	struct session *session = held_session(peer, receive_on);
	struct receiving *receiving = peer->call.state;

	if (!session)
		return;
	if (!receive_some(peer, receiving) ||
	    (is_received(receiving) && !is_allowed(peer, session))) {
		drop_staged(peer);
	} else if (is_received(receiving)) {
		look_on(peer);
	} else {
		peer->call.then = receive_on;
		peer_go_on_in_turn(peer);
	}
}

/* Begins to read what came. false: an error has been answered. */
static bool begin(struct peer *peer)
{
	struct receiving *receiving;
	json_t *objects;
	int continues;

	if (!method_unpack(peer, "{s:o, s?b !}", "objects", &objects, "continues", &continues))
		return false;
	if (!json_is_array(objects)) {
		peer_invalid(peer, "objects", "must be an array");
		return false;
	}
	receiving = g_new0(struct receiving, 1);
	receiving->objects = objects;
	peer->call.state = receiving;
	peer->call.free_state = g_free;
	peer->call.look = look_new(peer->account);
	return true;
}

void method_store(struct peer *peer)
{
	if (!held_session(peer, method_store))
		return;
	if (begin(peer))
		receive_on(peer);
	else
		drop_staged(peer);
}
