/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects out of a session: fetch, remove. Into it: methods-store.c. */
#include <errno.h>
#include <string.h>

#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/session.h"
#include "daemon/worker.h"

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
	if (next >= object_set_slots(&session->objects)) {
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

static void fail_held(struct peer *peer, const struct session *session)
{
	g_autofree char *cause = keep_explain(session->debt.error);

	peer_fail(
		peer, "KernelFailure", -session->debt.error,
		"session %s: what was removed is not in it any more, but not closed: systemd still "
		"holds it. %s. It is tried again until it is done, and Status warns meanwhile",
		session->name, cause);
}

/* The object's descriptors are closed, by the kernel too, unless systemd has not let go of them. */
static void finish_remove(struct peer *peer)
{
	struct session *session = method_held_session(peer, finish_remove);

	if (session && keep_holds(session))
		fail_held(peer, session);
	else if (session)
		peer_reply(peer, json_object(), NULL, 0);
}

/* There is no such object. If it was removed before, and was not closed then, it may be by now. */
static void finish_nothing(struct peer *peer)
{
	struct session *session = method_held_session(peer, finish_nothing);
	g_autofree char *name = NULL;
	const char *kind_name;
	int kind;

	if (!session)
		return;
	if (keep_holds(session)) {
		fail_held(peer, session);
		return;
	}
	name = object_meant(peer, &kind_name, &kind);
	if (name)
		peer_fail(peer, "NoSuchObject", ENOENT, "session %s holds no %s %s", session->name,
			  kind_name, name);
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
	if (!object && !keep_holds(session)) {
		finish_nothing(peer);
		return;
	}
	if (!peer_may_go(peer, method_remove))
		return;
	if (!object) {
		keep_settle(session);
		session_wait(session, peer, finish_nothing);
		return;
	}
	object_set_remove(&session->objects, object);
	object_take_all(object, &fds);
	object_free(object);
	session_happened(session, HAPPENED_CHANGED, NULL);
	keep_removal(session, kind, name, &fds);
	session_wait(session, peer, finish_remove);
}
