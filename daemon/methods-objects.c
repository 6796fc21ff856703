/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects into a session and back: store, fetch, remove. */
#include <errno.h>
#include <string.h>

#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/worker.h"

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

/* Fills a message with the runs from the cursor (a count of slots) on. Returns the next cursor. */
static size_t fill_message(struct peer *peer, const struct session *session, size_t cursor,
			   json_t *objects, size_t *ret_fds)
{
	size_t seen = 0, n = 0;

	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);
		size_t at = cursor > seen ? cursor - seen : 0;

		while (at < object->fds->len) {
			size_t run = MIN(object_run(object, at), FRAME_MAX_FDS - n);

			if (n == FRAME_MAX_FDS)
				break;
			if (run > 0) {
				json_array_append_new(objects, object_to_json(object, at, run, n));
				memcpy(peer->outgoing + n, &g_array_index(object->fds, int, at),
				       run * sizeof(int));
			}
			n += run;
			at += MAX(run, 1);
		}
		if (at < object->fds->len) {
			*ret_fds = n;
			return seen + at;
		}
		seen += object->fds->len;
	}
	*ret_fds = n;
	return seen;
}

void method_fetch(struct peer *peer)
{
	struct session *session = method_held_session(peer, method_fetch);
	json_t *objects, *reply;
	json_int_t cursor;
	size_t n_fds, next;

	if (!session || !method_unpack(peer, "{s:I !}", "cursor", &cursor))
		return;
	if (cursor < 0) {
		peer_invalid(peer, "cursor", "must be 0, or the next of an earlier answer");
		return;
	}
	objects = json_array();
	next = fill_message(peer, session, MAX((size_t)cursor, peer->call.next), objects, &n_fds);
	reply = json_pack("{s:o}", "objects", objects);
	if (next >= object_set_total(&session->objects)) {
		peer_reply(peer, reply, peer->outgoing, n_fds);
	} else if (peer->call.more && !peer->call.oneway) {
		peer->call.next = next;
		peer_reply_more(peer, reply, peer->outgoing, n_fds, method_fetch);
	} else {
		json_object_set_new(reply, "next", json_integer(next));
		peer_reply(peer, reply, peer->outgoing, n_fds);
	}
}

/* The kind and the name that Remove was called with, to g_free(). NULL: an error has been answered. */
static char *object_meant(struct peer *peer, const char **ret_kind_name, int *ret_kind)
{
	const char *name;

	if (!method_unpack(peer, "{s:s, s:s !}", "kind", ret_kind_name, "name", &name))
		return NULL;
	*ret_kind = object_kind_from_name(*ret_kind_name);
	return object_spell(*ret_kind, name);
}

/* The object's descriptors are closed, by the kernel too. */
static void finish_remove(struct peer *peer)
{
	struct session *session = method_held_session(peer, finish_remove);
	g_autofree char *name = NULL;
	const char *kind_name;
	int kind;

	if (session)
		name = object_meant(peer, &kind_name, &kind);
	if (!name)
		return;
	if (kind == OBJECT_DEVICE)
		devices_drop(peer->server, session, name);
	/* A journal that could not be written anew may still take the one line. */
	if (session->kept < 0)
		session->kept = keep_removal(session, kind, name);
	method_finish_change(peer);
}

void method_remove(struct peer *peer)
{
	struct session *session = method_held_session(peer, method_remove);
	auto_fdlist fds = {.close_all = worker_close_all};
	g_autofree char *name = NULL;
	struct object *object = NULL;
	const char *kind_name;
	int kind;

	if (session)
		name = object_meant(peer, &kind_name, &kind);
	if (!name)
		return;
	if (kind >= 0)
		object = object_set_find(&session->objects, kind, name);
	if (!object) {
		peer_fail(peer, "NoSuchObject", ENOENT, "session %s holds no %s %s", session->name,
			  kind_name, name);
		return;
	}
	object_set_remove(&session->objects, object);
	object_take_all(object, &fds);
	object_free(object);
	session_happened(session, HAPPENED_CHANGED, NULL);
	keep_anew(session, &fds);
	session_wait(session, peer, finish_remove);
}
