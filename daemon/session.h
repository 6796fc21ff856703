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
#include "daemon/survey.h"

struct account;
struct intake;
struct journal;
struct owed;
struct peer;
struct replay;
struct server;
struct session;
struct unit_look;

/* The process that holds the session, known by its pidfd: a number could be another's by now. */
struct holder {
	int pidfd; /* -1: nobody holds it */
	pid_t pid; /* to be told, no more: 0 if it has none here */
	struct event *death;
};

/* What of the session systemd or its journal does not have as it should: daemon/keep.h. */
struct debt {
	bool state; /* its state is not in its journal */
	bool copy;  /* its journal lacks more, or holds what was removed: to be written anew */
	GPtrArray *journals; /* of struct journal: former ones, which systemd may still hold */
	int error;	     /* why, -errno, as of the last try */
	unsigned int waits;  /* how often its state has been tried for, with too many in flight */
	gint64 tidy_after;   /* on CLOCK_MONOTONIC: no sooner is its journal tidied */
	struct owed *owed;   /* NULL: nothing ever was */
	void (*released)(struct session *session); /* ends its release, or tells that it goes on */
};

#define SESSION_DIED_UNSEEN (-1) /* while no daemon was there to see it */

struct session {
	struct server *server;
	uint64_t serial; /* grows from session to session, in the order that List tells them */
	char *name;
	uid_t uid;
	struct account *account; /* of that user */
	enum session_state state;
	gint64 since; /* CLOCK_MONOTONIC, microseconds */
	gint64 died; /* on that clock, when the VM lost its VMM; 0: it has one; SESSION_DIED_UNSEEN */
	struct holder holder;
	char *unit; /* the systemd unit of the holder, or of the last one; NULL: none, or not known */
	struct unit_look *unit_look; /* under way, by daemon/unitnote.h; NULL: none is */
	struct peer *peer;	     /* the holder's connection; NULL: lost, or none */
	struct object_set objects;
	struct summary summary;	 /* of what it holds, by the last survey */
	GPtrArray *opaque;	 /* what it holds besides, unknown: daemon/opaque.h */
	size_t opaque_held;	 /* descriptors of that */
	GHashTable *spaces;	 /* name -> struct space_status: what the orphan work found */
	struct intake *intake;	 /* of objects, under way, or what came of it; NULL: none */
	struct journal *journal; /* NULL: there is no fd store, or it has failed */
	uint64_t lineage;	 /* random: all copies of this session have it, and no other's */
	uint64_t generation;	 /* of its newest copy: one more each time it is written anew */
	size_t in_flight;	 /* descriptors in its journals, as counted for its user */
	struct debt debt;
	bool device_closing; /* one was taken out of it, and may not be closed yet */
	bool busy;	     /* a worker is at it */
	struct event *old;   /* to warn that it is an orphan for long */
	char *problem;	     /* why it is unreadable, or what else the recovery found of it */
	char *copy_of;	     /* it is unreadable: the name of its session; NULL: not known */
	GQueue waiting;	     /* of struct peer, referenced: their calls go on when it is not busy */
};

struct space_status {
	enum space_vaddr vaddr;
	char *warning;
};

/*
 * Its state as it is told to anybody: an orphan from its holder's death on, its settling included.
 * session->state is how far the daemon is with it.
 */
enum session_state session_visible_state(const struct session *session);

/* Whether it has a holder, dead or alive. The holder's number tells nothing about that. */
bool session_is_held(const struct session *session);

GHashTable *session_spaces_new(void);
void session_set_state(struct session *session, enum session_state state);

/* Forgets the process. */
void holder_clear(struct holder *holder);

/* The worker is done: a death meanwhile is told now, and calls that waited go on. */
void session_set_idle(struct session *session);

/* The calls of these peers go on. */
void session_go_on(GQueue *waiting);

/* A session that nobody holds yet, in no server: for daemon/life.c. */
struct session *session_make(struct server *server, const char *name, uid_t uid,
			     enum session_state state);

/* Frees it with all it holds. Only server_free() calls it for one that was not released. */
void session_free(struct session *session);

/* " of UNIT", its holder's or last one's, or nothing; to g_free(). */
char *session_of_unit(const struct session *session);

/* How many it holds, with those that this daemon does not know what to do with. */
size_t session_descriptors(const struct session *session);

/* The names of its devices, sorted; they are the session's. */
GPtrArray *session_devices(const struct session *session);

/*
 * The peer's call goes on with then(peer) when the session is no longer busy. It may be gone by
 * then, or busy again: with its release, or for another peer that waited too.
 */
void session_wait(struct session *session, struct peer *peer, void (*then)(struct peer *peer));

#endif
