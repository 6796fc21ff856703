/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods of a holder: attach, store, fetch, remove, commit, release. */
#include <errno.h>
#include <string.h>

#include "daemon/account.h"
#include "daemon/fdstore.h"
#include "daemon/keep.h"
#include "daemon/log.h"
#include "daemon/methods.h"
#include "daemon/monitor.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/worker.h"

#define STAGED_MAX 65536 /* descriptors of one batch, gaps included */
#define TABLES_MAX 64	 /* of a session: onlookers make the daemon read them */

static void answer_attach(struct peer *peer, const char *start)
{
	peer_reply(peer,
		   json_pack("{s:s, s:I}", "start", start, "objects",
			     (json_int_t)peer->session->objects.objects->len),
		   NULL, 0);
}

/*
 * A change that the journal did not take: it is written anew, once, and the call repeated after.
 * false: that has been tried, and the call must do without.
 */
static bool keep_and_repeat(struct peer *peer, struct session *session)
{
	if (peer->call.begun)
		return false;
	peer->call.begun = true;
	keep_anew(session, NULL);
	session_wait(session, peer);
	return true;
}

/* What was done is not in the journal: it may be undone by the daemon's death, and is no success. */
static void fail_unkept(struct peer *peer, const struct session *session)
{
	peer_fail(
		peer, "KernelFailure", EIO,
		"session %s: the change is made, but could not be kept in its journal, so that the "
		"daemon's death would undo it: look into the daemon's log, then repeat it",
		session->name);
}

/* Its holder lives: the same process may come back on a new connection, nobody else. */
static void attach_to_held(struct peer *peer, struct session *session)
{
	if (session->holder.pid != peer->pid || (session->peer && !peer_hung_up(session->peer))) {
		g_autofree char *unit = session_holder_unit(session);

		peer_fail(
			peer, "Busy", EBUSY,
			"session %s is held by process %d%s%s: stop that first, or wait for its end",
			session->name, (int)session->holder.pid, unit ? " of " : "",
			unit ? unit : "");
		return;
	}
	session_resume(session, peer);
	answer_attach(peer, "resumed");
}

/* The peer has the session; its journal was being stored meanwhile. */
static void finish_attach(struct peer *peer)
{
	struct session *session = peer->session;

	if (session && keep_state(session) == 0) {
		answer_attach(peer, peer->call.start);
		return;
	}
	if (session && session->objects.objects->len == 0)
		session_release(session);
	peer_fail(
		peer, "KernelFailure", EIO,
		"the session's journal could not be stored with systemd, so that it would not survive "
		"the daemon's death: look into the daemon's log");
}

static void claim(struct peer *peer, struct session *session)
{
	peer->call.start = "claimed";
	session_claim(session, peer);
	if (keep_state(session) == 0)
		answer_attach(peer, "claimed");
	else if (!keep_and_repeat(peer, session))
		fail_unkept(peer, session);
	/* After the answer: a VM stands still until it has that. */
	log_notice(session, "session %s is claimed by process %d", session->name, (int)peer->pid);
}

static char *refuse_session(uid_t uid)
{
	struct account *account = account_get(uid);
	char *refusal = account_refuse_session(account);

	account_put(account);
	return refusal;
}

static void create(struct peer *peer, const char *name, uid_t uid)
{
	g_autofree char *quota = refuse_session(uid);
	g_autofree char *room = keep_refusal();
	struct session *session;

	if (quota || room) {
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", quota ? quota : room);
		return;
	}
	session = session_new(peer->server, name, uid, peer);
	peer->call.start = "new";
	peer->call.begun = true;
	if (session->busy)
		session_wait(session, peer);
	else
		finish_attach(peer);
}

void method_attach(struct peer *peer)
{
	const char *name;
	json_int_t uid = peer->uid;
	struct session *session;

	if (peer->call.begun) {
		finish_attach(peer);
		return;
	}

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
		peer_fail(
			peer, "BadState", 0,
			"this connection has had a session already: use another connection for %s",
			name);
		return;
	}
	session = server_find_session(peer->server, uid, name);
	if (!session) {
		create(peer, name, uid);
		return;
	}
	if (session->state == SESSION_UNREADABLE) {
		peer_fail(peer, "BadState", 0, "session %s cannot be used: %s", name,
			  session->problem);
		return;
	}
	if (!session->busy && session_holder_lives(session)) {
		attach_to_held(peer, session);
		return;
	}
	/* The holder died. Its addresses are settled first, or it is on its way out: both end. */
	if (session->busy)
		session_wait(session, peer);
	else
		claim(peer, session);
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
		if (object_set_total(&peer->staged) > STAGED_MAX) {
			peer_fail(
				peer, "QuotaExceeded", EDQUOT,
				"a batch has at most %d descriptors, gaps included: store in several",
				STAGED_MAX);
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

/* Held, or on its way out: until it is closed. */
static bool holds_device(const struct session *session, const char *name)
{
	return session->state == SESSION_RELEASING ||
	       object_set_find(&session->objects, OBJECT_DEVICE, name);
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
		other = g_hash_table_lookup(peer->server->devices, object->name);
		if (other && other != session &&
		    (other->busy || holds_device(other, object->name))) {
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

/* All at once; nothing can fail any more. */
static void take_staged(struct peer *peer, struct session *session)
{
	for (guint i = 0; i < peer->staged.objects->len; i++) {
		struct object *object = g_ptr_array_index(peer->staged.objects, i);

		if (object->kind == OBJECT_DEVICE)
			g_hash_table_replace(peer->server->devices, g_strdup(object->name),
					     session);
	}
	object_set_move(&session->objects, &peer->staged);
}

/* The last message of a batch is in: into the journal, then into the session. */
static void store_staged(struct peer *peer, struct session *session)
{
	if (!staged_fits(peer, session)) {
		drop_staged(peer);
		return;
	}
	if (keep_objects(session, &peer->staged) < 0) {
		if (keep_and_repeat(peer, session))
			return;
		drop_staged(peer);
		peer_fail(
			peer, "QuotaExceeded", ENOSPC,
			"session %s takes no more: its journal is full (raise net.core.wmem_max), or "
			"systemd's fd store has dropped it; the daemon's log tells",
			session->name);
		return;
	}
	take_staged(peer, session);
	server_changed(peer->server);
	monitor_tell(session, "changed");
	peer_reply(peer, json_object(), NULL, 0);
	keep_tidy(session);
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
	struct session *session = held_session(peer);
	bool continues = false;

	if (!session)
		return;
	if (!peer->call.begun && !receive_objects(peer, session, &continues)) {
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
	next = fill_message(peer, session, MAX((size_t)cursor, peer->call.next), objects, &n_fds);
	reply = json_pack("{s:o}", "objects", objects);
	if (next >= object_set_total(&session->objects)) {
		peer_reply(peer, reply, peer->outgoing, n_fds);
	} else if (peer->call.more && !peer->call.oneway) {
		peer->call.next = next;
		peer_reply_more(peer, reply, peer->outgoing, n_fds);
	} else {
		json_object_set_new(reply, "next", json_integer(next));
		peer_reply(peer, reply, peer->outgoing, n_fds);
	}
}

/* The object's descriptors are closed, by the kernel too. */
static void finish_remove(struct peer *peer, struct session *session, int kind, const char *name)
{
	if (kind == OBJECT_DEVICE && !object_set_find(&session->objects, kind, name) &&
	    g_hash_table_lookup(peer->server->devices, name) == session)
		g_hash_table_remove(peer->server->devices, name);
	/* Once more: the journal may not be the one that took it, and says it twice at worst. */
	if (keep_removal(session, kind, name) == 0)
		peer_reply(peer, json_object(), NULL, 0);
	else
		fail_unkept(peer, session);
}

void method_remove(struct peer *peer)
{
	struct session *session = held_session(peer);
	auto_fdlist fds = {.close_all = worker_close_all};
	const char *kind_name, *name;
	struct object *object = NULL;
	int kind;

	if (!session || !method_unpack(peer, "{s:s, s:s !}", "kind", &kind_name, "name", &name))
		return;
	kind = object_kind_from_name(kind_name);
	if (peer->call.begun) {
		finish_remove(peer, session, kind, name);
		return;
	}
	if (kind >= 0)
		object = object_set_find(&session->objects, kind, name);
	if (!object) {
		peer_fail(peer, "NoSuchObject", ENOENT, "session %s holds no %s %s", session->name,
			  kind_name, name);
		return;
	}
	(void)keep_removal(session, kind, name); /* written anew below, the journal has no say */
	object_set_remove(&session->objects, object);
	object_take_all(object, &fds);
	object_free(object);
	server_changed(peer->server);
	monitor_tell(session, "changed");
	peer->call.begun = true;
	keep_anew(session, &fds);
	session_wait(session, peer);
}

void method_commit(struct peer *peer)
{
	struct session *session = held_session(peer);

	if (!session || !method_unpack(peer, "{!}"))
		return;
	session_commit(session);
	if (keep_state(session) == 0)
		peer_reply(peer, json_object(), NULL, 0);
	else if (!keep_and_repeat(peer, session))
		fail_unkept(peer, session);
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
		log_notice(session, "session %s is being released by process %d (uid %u)",
			   session->name, (int)peer->pid, peer->uid);
		session_release(session);
	}
	/* Busy with its orphan work: then this is called again. Busy with the release: at its end. */
	peer->call.begun = session->state == SESSION_RELEASING;
	session_wait(session, peer);
}
