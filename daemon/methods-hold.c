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

static void answer_attach(struct peer *peer, const char *start)
{
	peer_reply(peer,
		   json_pack("{s:s, s:I}", "start", start, "objects",
			     (json_int_t)peer->session->objects.objects->len),
		   NULL, 0);
}

/* The holder lives. That process may come back on a new connection, and nobody else. */
static void attach_to_held(struct peer *peer, struct session *session)
{
	bool is_holder = kernel->same_process(session->holder.pidfd, peer->pidfd) == 1;

	if (!is_holder || (session->peer && !peer_hung_up(session->peer))) {
		g_autofree char *unit = NULL;

		session_note_unit(session);
		unit = session_of_unit(session);
		peer_fail(
			peer, "Busy", EBUSY,
			"session %s is held by process %d%s: stop that first, or wait for its end",
			session->name, (int)session->holder.pid, unit);
		return;
	}
	session_resume(session, peer);
	answer_attach(peer, "resumed");
}

static void finish_claim(struct peer *peer)
{
	struct session *session = method_held_session(peer, finish_claim);

	if (session && session->kept == 0)
		answer_attach(peer, "claimed");
	else if (session)
		peer_fail(
			peer, "KernelFailure", EIO,
			"session %s is claimed, but that could not be kept in its journal, so that the "
			"daemon's death would make it an orphan again: look into the daemon's log; what "
			"is kept next, such as a Commit, keeps this too",
			session->name);
}

static void claim(struct peer *peer, struct session *session)
{
	session_claim(session, peer);
	if (keep_state(session) == 0)
		answer_attach(peer, "claimed");
	else
		method_keep_anew(peer, session, finish_claim);
	session_happened(session, HAPPENED_CLAIMED, NULL);
}

static char *refuse_session(uid_t uid)
{
	struct account *account = account_get(uid);
	char *refusal = account_refuse_session(account);

	account_put(account);
	return refusal;
}

/* The peer has the session, whose journal was being stored meanwhile. */
static void finish_create(struct peer *peer)
{
	struct session *session = method_held_session(peer, finish_create);

	if (session && session->kept == 0) {
		answer_attach(peer, "new");
		keep_state(session); /* now with the unit, which is no loss if it fails */
	} else if (session) {
		session_release(session);
		peer_fail(
			peer, "KernelFailure", EIO,
			"the session's journal could not be stored with systemd, so that it would "
			"not survive the daemon's death: look into the daemon's log");
	}
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
	session_note_unit(session);
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
	if (keep_state(session) == 0)
		peer_reply(peer, json_object(), NULL, 0);
	else
		method_keep_anew(peer, session, method_finish_change);
	if (!is_back)
		return;
	/* After the answer, as with a claim. */
	session_note_unit(session);
	session_happened(session, HAPPENED_ACTIVE, &(struct happening_detail){.died = died});
	if (!session->busy)
		keep_state(session); /* now with the unit, which is no loss if it fails */
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

/* The release that the call waited for is at its end, and the session gone. */
static void finish_release(struct peer *peer)
{
	peer_reply(peer, json_object(), NULL, 0);
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
	session = name ? method_find_session(peer, name, owner)
		       : method_held_session(peer, method_release);
	if (!session || (when_dead && refuse_living(peer, session)))
		return;
	if (!session->busy && !peer_may_go(peer, method_release))
		return;
	if (!session->busy) {
		g_autofree char *who = peer_describe(peer);

		session_happened(session, HAPPENED_RELEASING,
				 &(struct happening_detail){.by = who});
		session_release(session);
	}
	/* It may be busy with something else: with its orphan work, or its journal. */
	session_wait(session, peer,
		     session->state == SESSION_RELEASING ? finish_release : method_release);
}
