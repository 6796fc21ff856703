/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session and its holder: attach, commit, release. What it holds: methods-objects.c. */
#include <errno.h>
#include <string.h>

#include "daemon/account.h"
#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/kernel.h"
#include "daemon/life.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/process.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/unitnote.h"

static void answer_attach(struct peer *peer, const char *start)
{
	peer_reply(peer,
		   json_pack("{s:s, s:I}", "start", start, "objects",
			     (json_int_t)peer->session->objects.objects->len),
		   NULL, 0);
}

/* It is kept now, if it can be. */
static void finish_attached(struct peer *peer, const char *start, void (*then)(struct peer *peer))
{
	struct session *session = method_held_session(peer, then);
	g_autofree char *cause = NULL;

	if (!session)
		return;
	/* That others have too much in flight is no reason to fail a VM: it is kept when it can be. */
	if (!session->debt.state || session->debt.error == -ETOOMANYREFS) {
		answer_attach(peer, start);
		return;
	}
	cause = keep_explain(session->debt.error);
	peer_fail(
		peer, "KernelFailure", -session->debt.error,
		"session %s is %s, but that is not kept, so that the daemon's death would make it an "
		"orphan again: %s. It is tried again until it is done, and Status warns meanwhile",
		session->name, start, cause);
}

static void finish_claim(struct peer *peer)
{
	finish_attached(peer, "claimed", finish_claim);
}

static void finish_resume(struct peer *peer)
{
	finish_attached(peer, "resumed", finish_resume);
}

static void resume(struct peer *peer, struct session *session)
{
	session_resume(session, peer);
	if (!session->debt.state || method_keep_state(peer, session, finish_resume))
		answer_attach(peer, "resumed");
}

/* The holder lives. That process may come back on a new connection, and nobody else. */
static void attach_to_held(struct peer *peer, struct session *session)
{
	bool is_holder = kernel->same_process(session->holder.pidfd, peer->pidfd) == 1;

	if (!is_holder || (session->peer && !peer_hung_up(session->peer))) {
		g_autofree char *unit = session_of_unit(session);

		peer_fail(
			peer, "Busy", EBUSY,
			"session %s is held by process %d%s: stop that first, or wait for its end",
			session->name, (int)session->holder.pid, unit);
		return;
	}
	resume(peer, session);
}

static void claim(struct peer *peer, struct session *session)
{
	session_claim(session, peer);
	if (method_keep_state(peer, session, finish_claim))
		answer_attach(peer, "claimed");
	session_happened(session, HAPPENED_CLAIMED, NULL);
	unitnote_begin(session);
}

static char *refuse_session(uid_t uid)
{
	struct account *account = account_get(uid);
	char *refusal = account_refuse_session(account);

	account_put(account);
	return refusal;
}

static void finish_refusal(struct peer *peer)
{
	const char *name = json_string_value(json_object_get(peer->call.parameters, "name"));
	g_autofree char *cause = keep_explain(peer->call.error);

	peer_fail(
		peer, "KernelFailure", -peer->call.error,
		"session %s is not made, as its journal could not be stored, and it would not survive "
		"the daemon's death: %s",
		name, cause);
}

/* The peer has the session, whose journal was being stored meanwhile. */
static void finish_create(struct peer *peer)
{
	struct session *session = method_held_session(peer, finish_create);

	if (!session)
		return;
	if (session->debt.state) {
		peer->call.error = session->debt.error;
		session_release(session);
		session_wait(session, peer, finish_refusal);
		return;
	}
	answer_attach(peer, "new");
	if (session->unit)
		keep_state_later(session);
}

static void create(struct peer *peer, const char *name, uid_t uid)
{
	g_autofree char *quota = refuse_session(uid);
	g_autofree char *room = keep_refusal(peer->uid);
	struct session *session;

	if (quota || room) {
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", quota ? quota : room);
		return;
	}
	if (!peer_may_go(peer, method_attach))
		return;
	session = session_new(peer->server, name, uid, peer);
	if (session->busy)
		session_wait(session, peer, finish_create);
	else
		finish_create(peer);
}

/* The session that the call under way, an Attach, means; NULL: there is none (any more). */
static struct session *session_to_attach(const struct peer *peer)
{
	const char *name = json_string_value(json_object_get(peer->call.parameters, "name"));
	const json_t *owner = json_object_get(peer->call.parameters, "uid");

	return server_find_session(peer->server, owner ? json_integer_value(owner) : peer->uid,
				   name);
}

/*
 * A release that systemd has held up is tried again at once, and the call goes on with finish(peer).
 * It is not if the user has asked for so much of it that then(peer) has its turn first.
 */
static void go_on_releasing(struct peer *peer, struct session *session,
			    void (*then)(struct peer *peer), void (*finish)(struct peer *peer))
{
	if (!session->busy && !peer_may_go(peer, then))
		return;
	if (!session->busy)
		keep_settle(session);
	session_wait(session, peer, finish);
}

/* Whether a session can be held over this connection. false: an error has been answered. */
static bool can_hold(struct peer *peer, const char *name)
{
	if (peer->session || peer->pidfd < 0) {
		peer_fail(
			peer, "BadState", 0,
			"this connection has had a session already: use another connection for %s",
			name);
		return false;
	}
	/*
	 * SO_PEERCRED tells 0 for a process that has no number in the daemon's PID namespace: pid_vnr(),
	 * in the kernel's cred_to_ucred(). In a session 0 means that nobody holds it.
	 */
	if (peer->pid == 0) {
		peer_fail(peer, "Refused", ESRCH,
			  "session %s would have a holder that the daemon cannot see, in a PID "
			  "namespace that is not the daemon's nor below it: run vfio-cprd in the "
			  "PID namespace of the host",
			  name);
		return false;
	}
	/* A child may have the connection of a dead process. It would hold nothing. */
	if (!process_lives(peer->pidfd)) {
		peer_fail(peer, "Refused", ESRCH,
			  "session %s would have a holder that has ended: the process that made "
			  "this connection. Use a connection of your own",
			  name);
		return false;
	}
	return true;
}

/* The release that the call waited for, or tried again, is at its end. */
static void attach_after_release(struct peer *peer)
{
	struct session *session = session_to_attach(peer);

	if (session && !session->busy && session->state == SESSION_RELEASING)
		method_fail_release(peer, session);
	else
		method_attach(peer);
}

void method_attach(struct peer *peer)
{
	const char *name;
	json_t *owner = NULL;
	uid_t uid = peer->uid;
	struct session *session;

	if (!method_unpack(peer, "{s:s, s?o !}", "name", &name, "uid", &owner))
		return;
	if (!session_name_is_valid(name)) {
		peer_invalid(peer, "name", "a session's name is 1 to 64 of A-Z a-z 0-9 : . _ @ -");
		return;
	}
	if (!method_owner(peer, owner, &uid))
		return;
	if (!can_hold(peer, name))
		return;
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
	if (session->state == SESSION_RELEASING) {
		go_on_releasing(peer, session, method_attach, attach_after_release);
		return;
	}
	if (!session->busy && session_holder_lives(session)) {
		attach_to_held(peer, session);
		return;
	}
	/* The holder has died. Waits for the end of its settling, or of a release. */
	if (session->busy)
		session_wait(session, peer, method_attach);
	else
		claim(peer, session);
}

void method_commit(struct peer *peer)
{
	struct session *session = method_held_session(peer, method_commit);
	bool is_back;
	gint64 died;

	if (!session || !method_unpack(peer, "{!}"))
		return;
	is_back = session_commit(session, &died);
	if (method_keep_state(peer, session, method_finish_change))
		peer_reply(peer, json_object(), NULL, 0);
	if (!is_back)
		return;
	/* After the answer, as with a claim. */
	session_happened(session, HAPPENED_ACTIVE, &(struct happening_detail){.died = died});
	keep_tidy(session);
}

/* Called in the same turn of the loop in which the release begins: no claim can come in between. */
static bool refuse_living(struct peer *peer, struct session *session)
{
	if (session->busy || !session_holder_lives(session))
		return false;
	peer_fail(peer, "Busy", EBUSY,
		  "session %s is held by process %d, which lives, so that it is not released: stop "
		  "that first, or leave whenDead out",
		  session->name, (int)session->holder.pid);
	return true;
}

/* The session that the call under way, a Release, means; NULL: there is none (any more). */
static struct session *session_meant(const struct peer *peer)
{
	const char *name = json_string_value(json_object_get(peer->call.parameters, "name"));
	const json_t *owner = json_object_get(peer->call.parameters, "uid");
	bool many;

	if (!name)
		return peer->session;
	return owner ? server_find_session(peer->server, json_integer_value(owner), name)
		     : server_search_session(peer->server, peer, name, &many);
}

/* The release that the call waited for is at its end: the session is gone, or held by systemd yet. */
static void finish_release(struct peer *peer)
{
	struct session *session = session_meant(peer);

	if (session && !session->busy && session->state == SESSION_RELEASING)
		method_fail_release(peer, session);
	else
		peer_reply(peer, json_object(), NULL, 0);
}

/* The session that is to be released. NULL: an error has been answered, or the call waits. */
static struct session *session_to_release(struct peer *peer, const char *name, const json_t *owner)
{
	if (name)
		return method_find_session(peer, name, owner);
	if (peer->session && peer->session->state == SESSION_RELEASING)
		return peer->session;
	return method_held_session(peer, method_release);
}

void method_release(struct peer *peer)
{
	const char *name = NULL;
	json_t *owner = NULL;
	int when_dead = false;
	struct session *session;

	if (!method_unpack(peer, "{s?s, s?o, s?b !}", "name", &name, "uid", &owner, "whenDead",
			   &when_dead))
		return;
	session = session_to_release(peer, name, owner);
	if (!session || (when_dead && refuse_living(peer, session)))
		return;
	if (session->state == SESSION_RELEASING) {
		go_on_releasing(peer, session, method_release, finish_release);
		return;
	}
	if (!session->busy) {
		g_autofree char *who = NULL;

		if (!peer_may_go(peer, method_release))
			return;
		who = peer_describe(peer);
		session_happened(session, HAPPENED_RELEASING,
				 &(struct happening_detail){.by = who});
		session_release(session);
	}
	/* It may be busy with something else: with its orphan work, or its journal. */
	session_wait(session, peer,
		     session->state == SESSION_RELEASING ? finish_release : method_release);
}
