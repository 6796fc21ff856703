/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods of a holder: attach, store, fetch, remove, commit, release. */
#include <errno.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/methods.h"
#include "daemon/monitor.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/worker.h"

static void answer_attach(struct peer *peer, const char *start)
{
	peer_reply(peer,
		   json_pack("{s:s, s:I}", "start", start, "objects",
			     (json_int_t)peer->session->objects.objects->len),
		   NULL, 0);
}

/* Its holder lives: the same process may come back on a new connection, nobody else. */
static void attach_to_held(struct peer *peer, struct session *session)
{
	if (session->holder.pid != peer->pid || (session->peer && !peer_hung_up(session->peer))) {
		peer_fail(peer, "Busy", EBUSY,
			  "session %s is held by process %d%s%s: stop that first, or wait for its end",
			  session->name, (int)session->holder.pid, session->holder.unit ? " of " : "",
			  session->holder.unit ? session->holder.unit : "");
		return;
	}
	session_resume(session, peer);
	answer_attach(peer, "resumed");
}

void method_attach(struct peer *peer)
{
	const char *name;
	json_int_t uid = peer->uid;
	struct session *session;

	if (!method_unpack(peer, "{s:s, s?I !}", "name", &name, "uid", &uid))
		return;
	if (!session_name_is_valid(name)) {
		peer_invalid(peer, "name", "a session's name is 1 to 64 of A-Z a-z 0-9 : . _ @ -");
		return;
	}
	if (uid < 0 || !peer_may(peer, uid)) {
		peer_fail_service(peer, "PermissionDenied", json_object());
		return;
	}
	if (peer->session || peer->pidfd < 0) {
		peer_fail(peer, "BadState", 0,
			  "this connection has had a session already: use another connection for %s",
			  name);
		return;
	}
	session = server_find_session(peer->server, uid, name);
	if (!session) {
		g_autofree char *refusal = server_session_quota(peer->server, uid);

		if (refusal) {
			peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", refusal);
			return;
		}
		session_new(peer->server, name, uid, peer);
		answer_attach(peer, "new");
		return;
	}
	if (!session->busy && session_holder_lives(session)) {
		attach_to_held(peer, session);
		return;
	}
	/* The holder died. Its addresses are settled first, or it is on its way out: both end. */
	if (session->busy) {
		session_wait(session, peer);
		return;
	}
	session_claim(session, peer);
	answer_attach(peer, "claimed");
}

/* The session that the peer holds and can change now. NULL: an error was answered, or it waits. */
static struct session *held_session(struct peer *peer)
{
	struct session *session = peer->session;

	if (!session) {
		peer_fail(peer, "NotHolder", 0, "this connection holds no session: Attach first");
		return NULL;
	}
	if (session->busy) {
		session_wait(session, peer);
		return NULL;
	}
	return session;
}

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

		object = object_from_json(json, &peer->call.fds, &used, &parameter, &message, &refused);
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
		other = g_hash_table_lookup(peer->server->devices, object->name);
		if (other && other != session) {
			peer_fail(peer, "Refused", EBUSY,
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
	object_set_init(&peer->staged);
	peer->staging = false;
}

/* All at once; nothing can fail any more. */
static void take_staged(struct peer *peer, struct session *session)
{
	for (guint i = 0; i < peer->staged.objects->len; i++) {
		struct object *object = g_ptr_array_index(peer->staged.objects, i);

		if (object->kind == OBJECT_DEVICE)
			g_hash_table_replace(peer->server->devices, g_strdup(object->name), session);
		object_set_add(&session->objects, object);
	}
	g_ptr_array_set_size(peer->staged.objects, 0);
	g_hash_table_remove_all(peer->staged.by_name);
	g_hash_table_remove_all(peer->staged.by_id);
	memset(peer->staged.slots, 0, sizeof(peer->staged.slots));
	peer->staging = false;
}

void method_store(struct peer *peer)
{
	struct session *session = held_session(peer);
	g_autofree char *refusal = NULL;
	json_t *objects;
	int continues = 0;

	if (!session)
		return;
	if (!method_unpack(peer, "{s:o, s?b !}", "objects", &objects, "continues", &continues)) {
		drop_staged(peer);
		return;
	}
	if (!json_is_array(objects)) {
		drop_staged(peer);
		peer_invalid(peer, "objects", "must be an array");
		return;
	}
	refusal = server_descriptor_quota(peer->server, session->uid, peer->call.fds.n);
	if (refusal) {
		drop_staged(peer);
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", refusal);
		return;
	}
	if (!stage(peer, objects)) {
		drop_staged(peer);
		return;
	}
	/* Once more: a run's gaps count, and are known only now. */
	refusal = server_descriptor_quota(peer->server, session->uid, 0);
	if (refusal) {
		drop_staged(peer);
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", refusal);
		return;
	}
	peer->staging = continues;
	if (!continues) {
		if (!staged_fits(peer, session)) {
			drop_staged(peer);
			return;
		}
		take_staged(peer, session);
		server_changed(peer->server);
		monitor_tell(session, "changed");
	}
	peer_reply(peer, json_object(), NULL, 0);
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
	struct session *session = held_session(peer);
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
	next = fill_message(peer, session, cursor, objects, &n_fds);
	reply = json_pack("{s:o}", "objects", objects);
	if (next < object_set_total(&session->objects))
		json_object_set_new(reply, "next", json_integer(next));
	peer_reply(peer, reply, peer->outgoing, n_fds);
}

/* A removal waits for its close; the peer may be gone by then, but not freed. */
struct removal {
	struct peer *peer;
	struct server *server;
	char *device; /* to be known as held until it is closed */
};

static void removal_done(void *data)
{
	struct removal *removal = data;

	if (removal->device)
		g_hash_table_remove(removal->server->devices, removal->device);
	peer_reply(removal->peer, json_object(), NULL, 0);
	peer_unref(removal->peer);
	g_free(removal->device);
	g_free(removal);
}

void method_remove(struct peer *peer)
{
	struct session *session = held_session(peer);
	const char *kind_name, *name;
	struct object *object = NULL;
	struct removal *removal;
	auto_fdlist fds = FDLIST_INIT;
	int kind;

	if (!session || !method_unpack(peer, "{s:s, s:s !}", "kind", &kind_name, "name", &name))
		return;
	kind = object_kind_from_name(kind_name);
	if (kind >= 0)
		object = object_set_find(&session->objects, kind, name);
	if (!object) {
		peer_fail(peer, "NoSuchObject", ENOENT, "session %s holds no %s %s", session->name,
			  kind_name, name);
		return;
	}
	removal = g_new0(struct removal, 1);
	removal->peer = peer_ref(peer);
	removal->server = peer->server;
	if (kind == OBJECT_DEVICE)
		removal->device = g_strdup(name);
	object_set_remove(&session->objects, object);
	object_take_all(object, &fds);
	object_free(object);
	worker_close_then(fds.fds, fds.n, removal_done, removal);
	memset(fds.fds, 0xff, fds.n * sizeof(int)); /* they are the worker's */
	server_changed(peer->server);
	monitor_tell(session, "changed");
}

void method_commit(struct peer *peer)
{
	struct session *session = held_session(peer);

	if (!session || !method_unpack(peer, "{!}"))
		return;
	session_commit(session);
	peer_reply(peer, json_object(), NULL, 0);
}

void method_release(struct peer *peer)
{
	const char *name = NULL;
	json_int_t uid = -1;
	struct session *session;

	if (peer->call.begun) {
		/* It waited for this release to end. */
		peer_reply(peer, json_object(), NULL, 0);
		return;
	}
	if (!method_unpack(peer, "{s?s, s?I !}", "name", &name, "uid", &uid))
		return;
	session = name ? method_find_session(peer, name, uid) : held_session(peer);
	if (!session)
		return;
	if (!session->busy) {
		log_notice(session, "session %s is being released by process %d (uid %u)", session->name,
			   (int)peer->pid, peer->uid);
		session_release(session);
	}
	/* Busy with its orphan work: then this is called again. Busy with the release: at its end. */
	peer->call.begun = session->state == SESSION_RELEASING;
	session_wait(session, peer);
}
