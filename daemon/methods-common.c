/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the methods share: parameters, the session that is meant, a change that is not kept. */
#include <errno.h>
#include <stdlib.h>

#include "common/unpack.h"
#include "daemon/keep.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

bool method_unpack(struct peer *peer, const char *format, ...)
{
	json_error_t error;
	va_list arguments;
	int r;

	va_start(arguments, format);
	r = json_vunpack_ex(peer->call.parameters, &error, 0, format, arguments);
	va_end(arguments);
	if (r < 0) {
		g_autofree char *field = NULL, *problem = unpack_explain(&error, &field);

		peer_invalid(peer, field ? field : "parameters", problem);
	}
	return r == 0;
}

void method_add(GString *array, json_t *item)
{
	char *text = json_dumps(item, JSON_COMPACT);

	json_decref(item);
	if (!text)
		return;
	if (array->len > 0)
		g_string_append_c(array, ',');
	g_string_append(array, text);
	free(text);
}

void method_add_array(GString *object, const char *name, const GString *items)
{
	g_string_append_printf(object, "%s\"%s\":[", object->len > 1 ? "," : "", name);
	g_string_append_len(object, items->str, (gssize)items->len);
	g_string_append_c(object, ']');
}

void method_add_next(GString *object, json_int_t next)
{
	if (next > 0)
		g_string_append_printf(object, ",\"next\":%" JSON_INTEGER_FORMAT, next);
	g_string_append_c(object, '}');
}

bool method_cursor(struct peer *peer, json_int_t cursor)
{
	if (cursor < 0)
		peer_invalid(peer, "cursor", "a cursor is what \"next\" of the answer before was");
	return cursor >= 0;
}

bool method_owner(struct peer *peer, const json_t *json, uid_t *ret_uid)
{
	json_int_t uid = json_integer_value(json);

	if (!json)
		return true;
	if (!json_is_integer(json) || uid < 0 || uid >= (json_int_t)NO_UID) {
		peer_invalid(peer, "uid", "a uid is a number from 0 to 4294967294");
		return false;
	}
	if (!peer_may_see(peer, uid)) {
		peer_forbid(peer, uid);
		return false;
	}
	*ret_uid = uid;
	return true;
}

struct session *method_find_session(struct peer *peer, const char *name, const json_t *owner)
{
	struct session *session;
	uid_t uid = NO_UID;
	bool many = false;

	if (!method_owner(peer, owner, &uid))
		return NULL;
	session = uid != NO_UID ? server_find_session(peer->server, uid, name)
				: server_search_session(peer->server, peer, name, &many);
	if (!session && many)
		peer_fail(peer, "NoSuchSession", 0,
			  "several users have a session %s: say whose, by uid", name);
	else if (!session)
		peer_fail(
			peer, "NoSuchSession", 0,
			"there is no session %s that you may see: \"vfio-cprctl list\" tells which "
			"there are",
			name);
	return session;
}

struct session *method_held_session(struct peer *peer, void (*then)(struct peer *peer))
{
	struct session *session = peer->session;

	if (!session) {
		peer_fail(peer, "NotHolder", 0, "this connection holds no session: Attach first");
		return NULL;
	}
	if (session->busy) {
		session_wait(session, peer, then);
		return NULL;
	}
	if (session->state == SESSION_RELEASING) {
		method_fail_release(peer, session);
		return NULL;
	}
	return session;
}

void method_keep_anew(struct peer *peer, struct session *session, void (*then)(struct peer *peer))
{
	keep_anew(session);
	session_wait(session, peer, then);
}

bool method_keep_state(struct peer *peer, struct session *session, void (*then)(struct peer *peer))
{
	int r = keep_state(session);

	if (r == 0)
		return true;
	keep_state_again(session, r);
	session_wait(session, peer, then);
	return false;
}

void method_finish_change(struct peer *peer)
{
	struct session *session = method_held_session(peer, method_finish_change);

	if (session && !session->debt.state)
		peer_reply(peer, json_object(), NULL, 0);
	else if (session)
		method_fail_unkept(peer, session);
}

void method_fail_unkept(struct peer *peer, const struct session *session)
{
	g_autofree char *cause = keep_explain(session->debt.error);

	peer_fail(
		peer, "KernelFailure", -session->debt.error,
		"session %s: the change is made, but not kept, so that the daemon's death would undo "
		"it: %s. It is tried again until it is done, and Status warns meanwhile",
		session->name, cause);
}

void method_fail_release(struct peer *peer, const struct session *session)
{
	g_autofree char *cause = keep_explain(session->debt.error);

	peer_fail(peer, "KernelFailure", -session->debt.error,
		  "session %s is being released, but systemd still holds what was in it: %s. It is "
		  "tried again until it is done, and listed as releasing meanwhile",
		  session->name, cause);
}
