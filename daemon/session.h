/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A session: all that is held for one VMM, and which process holds it now. Its life:
 *
 *	new -> active -> (holder dies) orphaned -> (claimed) restoring -> (commit) active
 *
 * It ends by release alone, or with its holder if it holds nothing. Work that may block runs in a
 * worker; meanwhile the session is busy, and calls on it wait their turn.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include <event2/event.h>
#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/session-name.h"
#include "daemon/object.h"
#include "daemon/space.h"

struct account;
struct journal;
struct peer;
struct replay;
struct server;

/* The process that holds the session, known by its pidfd: a number could be another's by now. */
struct holder {
	pid_t pid; /* 0: none */
	int pidfd;
	struct event *death;
};

#define SESSION_DIED_UNSEEN (-1) /* while no daemon was there to see it */

struct session {
	struct server *server;
	char *name;
	uid_t uid;
	struct account *account; /* of that user */
	enum session_state state;
	gint64 since; /* CLOCK_MONOTONIC, microseconds */
	gint64 died;  /* the same: when the VM lost its VMM; 0: it has one; SESSION_DIED_UNSEEN */
	struct holder holder;
	char *unit; /* the systemd unit of the holder, or of the last one; NULL: none, or not known */
	struct peer *peer; /* the holder's connection; NULL: lost, or none */
	struct object_set objects;
	GHashTable *spaces;	 /* name -> struct space_status: what the orphan work found */
	struct journal *journal; /* NULL: there is no fd store, or it has failed */
	bool unit_due;		 /* the unit has not been looked up */
	bool busy;		 /* a worker is at it */
	struct event *old;	 /* to warn that it is an orphan for long */
	bool death_untold;	 /* its holder died while it was busy */
	char *problem;		 /* why it is unreadable */
	GQueue waiting; /* of struct peer, referenced: their calls are repeated when it is not busy */
};

struct space_status {
	enum space_vaddr vaddr;
	char *warning;
};

/* Its state as an onlooker sees it: an orphan from its holder's death on, its settling included. */
const char *session_visible_state(const struct session *session);

GHashTable *session_spaces_new(void);
void session_set_state(struct session *session, enum session_state state);

/* The worker is done: calls that waited are repeated. */
void session_set_idle(struct session *session);

/*
 * Makes an active session held by the peer's process, and puts it into the server. It may be busy:
 * until its journal is stored.
 */
struct session *session_new(struct server *server, const char *name, uid_t uid, struct peer *peer);

/* The session as its journal tells, with the journal; takes what is in replay. */
struct session *session_recover(struct server *server, struct replay *replay,
				struct journal *journal);

/* Stands for a journal that cannot be read, so that it is seen and can be released. */
struct session *session_unreadable(struct server *server, const char *name, struct journal *journal,
				   const char *problem);

/* Frees it with all it holds. Only server_free() calls it for one that was not released. */
void session_free(struct session *session);

/* Whether its holder's process runs. If it died unnoticed, notices now. */
bool session_holder_lives(struct session *session);

/*
 * Looks up the unit of its holder, if nobody has yet. It takes longer than a claim may, so it is for
 * those who ask, and for when no VM waits.
 */
void session_note_unit(struct session *session);

/* The names of its devices, sorted; they are the session's. */
GPtrArray *session_devices(const struct session *session);

/* An orphan gets a new holder: it is restoring. */
void session_claim(struct session *session, struct peer *peer);

/* The holder's process is back on another connection. */
void session_resume(struct session *session, struct peer *peer);

/* *ret_died: it is active again, after that death (as in session->died); else 0. */
void session_commit(struct session *session, gint64 *ret_died);

/* Closes everything and, in the end, removes the session from the server and frees it. */
void session_release(struct session *session);

/* The connection is gone. The session stays with its process. */
void session_lose_peer(struct session *session);

/* Repeats the peer's call when the session is no longer busy (or no longer there). */
void session_wait(struct session *session, struct peer *peer);

#endif
