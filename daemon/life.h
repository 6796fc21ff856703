/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What becomes of a session: all that begins it, gives it a holder or takes it away, and ends it.
 * daemon/session.h draws the way.
 */
#ifndef DAEMON_LIFE_H
#define DAEMON_LIFE_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

struct journal;
struct peer;
struct replay;
struct server;
struct session;

/*
 * Makes an active session held by the peer's process, and puts it into the server. It may be busy:
 * until its journal is stored.
 */
struct session *session_new(struct server *server, const char *name, uid_t uid, struct peer *peer);

/* The session as its journal tells, with the journal; takes what is in replay. */
struct session *session_recover(struct server *server, struct replay *replay,
				struct journal *journal);

/*
 * Stands for a journal that cannot be read or used, so that its owner sees it and can release it.
 * copy_of: the name of the session that it is one of; NULL: not known.
 */
struct session *session_unreadable(struct server *server, const char *name, uid_t uid,
				   const char *copy_of, struct journal *journal,
				   const char *problem);

/* Whether its holder's process runs. If it died unnoticed, notices now. */
bool session_holder_lives(struct session *session);

/*
 * An orphan gets a new holder: it is restoring. Who calls this, or session_commit(), tells what has
 * happened after its answer: a VM stands still until it has that.
 */
void session_claim(struct session *session, struct peer *peer);

/* The holder's process is back on another connection. */
void session_resume(struct session *session, struct peer *peer);

/* true: it is active again, after that death (as in session->died); else it has been all along. */
bool session_commit(struct session *session, gint64 *ret_died);

/* Closes everything and, in the end, removes the session from the server and frees it. */
void session_release(struct session *session);

#endif
