/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects into a session: store. They are staged, checked, kept, and then the session's. */
#include <errno.h>

#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define TABLES_MAX 64 /* of a session: onlookers make the daemon read them */

/* Parses the message's objects into the staging area. false: an error has been answered. */
static bool stage(struct peer *peer, json_t *objects)
{
	size_t used = 0, i;
	json_t *json;

	json_array_foreach(objects, i, json)
	{
		g_autofree char *parameter = NULL, *message = NULL, *conflict = NULL;
		struct object *object;
		bool refused;

		object = object_from_json(json, &peer->call.fds, &used, &parameter, &message,
					  &refused);
		if (!object) {
			if (refused)
				peer_fail(peer, "Refused", EINVAL, "%s", message);
			else
				peer_invalid(peer, parameter, message);
			return false;
		}
		conflict = object_set_conflict(&peer->staged, object);
		if (conflict) {
			object_free(object);
			peer_fail(peer, "AlreadyExists", EEXIST, "%s", conflict);
			return false;
		}
		object_set_add(&peer->staged, object);
		if (object_set_total(&peer->staged) > OBJECT_MAX_FDS) {
			peer_fail(
				peer, "QuotaExceeded", EDQUOT,
				"a batch has at most %d descriptors, gaps included: store in several",
				OBJECT_MAX_FDS);
			return false;
		}
	}
	if (used != peer->call.fds.n) {
		peer_invalid(peer, "objects",
			     "there came more descriptors than the objects name: name each once");
		return false;
	}
	return true;
}

/* Why what is staged cannot go into the session. false: an error has been answered. */
static bool staged_fits(struct peer *peer, struct session *session)
{
	if (session->objects.slots[OBJECT_TABLE] + peer->staged.slots[OBJECT_TABLE] > TABLES_MAX) {
		peer_fail(peer, "QuotaExceeded", EDQUOT, "a session has at most %d mapping tables",
			  TABLES_MAX);
		return false;
	}
	for (guint i = 0; i < peer->staged.objects->len; i++) {
		struct object *object = g_ptr_array_index(peer->staged.objects, i);
		g_autofree char *conflict = object_set_conflict(&session->objects, object);
		struct session *other;

		if (conflict) {
			peer_fail(peer, "AlreadyExists", EEXIST, "%s", conflict);
			return false;
		}
		if (object->kind != OBJECT_DEVICE)
			continue;
		other = devices_holder(peer->server, object->name);
		if (other && other != session) {
			peer_fail(
				peer, "Refused", EBUSY,
				"device %s is held by session %s of uid %u: release that first, so that "
				"the device is reset between",
				object->name, other->name, other->uid);
			return false;
		}
	}
	return true;
}

static void drop_staged(struct peer *peer)
{
	object_set_clear(&peer->staged);
	object_set_init(&peer->staged, peer->account);
}

/* Moves all that is staged into the session, which cannot fail. */
static void take_staged(struct peer *peer, struct session *session)
{
	devices_take(peer->server, session, &peer->staged);
	object_set_move(&session->objects, &peer->staged);
}

/* It is in the journal: now into the session. */
static void finish_store(struct peer *peer, struct session *session)
{
	take_staged(peer, session);
	session_happened(session, HAPPENED_CHANGED, NULL);
	peer_reply(peer, json_object(), NULL, 0);
	keep_tidy(session);
}

/* The journal was written anew: if it has no room now, it never will. */
static void store_again(struct peer *peer)
{
	struct session *session = method_held_session(peer, store_again);

	if (!session)
		return;
	if (!staged_fits(peer, session)) {
		drop_staged(peer);
	} else if (keep_objects(session, &peer->staged) < 0) {
		drop_staged(peer);
		peer_fail(
			peer, "QuotaExceeded", ENOSPC,
			"session %s takes no more: its journal is full (raise net.core.wmem_max), or "
			"systemd's fd store has dropped it; the daemon's log tells",
			session->name);
	} else {
		finish_store(peer, session);
	}
}

/* The last message of a batch is in. */
static void store_staged(struct peer *peer, struct session *session)
{
	if (!staged_fits(peer, session))
		drop_staged(peer);
	else if (keep_objects(session, &peer->staged) < 0)
		method_keep_anew(peer, session, store_again);
	else
		finish_store(peer, session);
}

/* Takes the message's objects into the staging area. false: an error has been answered. */
static bool receive_objects(struct peer *peer, const struct session *session, bool *ret_continues)
{
	g_autofree char *refusal = NULL;
	json_t *objects;
	int continues = 0;

	if (!method_unpack(peer, "{s:o, s?b !}", "objects", &objects, "continues", &continues))
		return false;
	if (!json_is_array(objects)) {
		peer_invalid(peer, "objects", "must be an array");
		return false;
	}
	if (!stage(peer, objects))
		return false;
	refusal = account_refuse_descriptors(session->account, peer->server->descriptor_limit);
	if (refusal) {
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", refusal);
		return false;
	}
	*ret_continues = continues;
	return true;
}

void method_store(struct peer *peer)
{
	struct session *session = method_held_session(peer, method_store);
	bool continues;

	if (!session)
		return;
	if (!receive_objects(peer, session, &continues)) {
		drop_staged(peer);
		return;
	}
	if (continues)
		peer_reply(peer, json_object(), NULL, 0);
	else
		store_staged(peer, session);
}
