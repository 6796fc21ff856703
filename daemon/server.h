/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server: listening sockets, peers, sessions, and the limits on them. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <event2/event.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct peer;
struct session;
struct turns;

struct server {
	struct event_base *base;
	void (*call)(struct peer *peer); /* does the call that a peer has under way */
	/* A session of that name is gone, and another copy of it may be used now. NULL: nobody asks. */
	void (*released)(struct server *server, uid_t uid, const char *name);
	GPtrArray *listeners;	      /* of struct event */
	struct event *accept_again;   /* accepting pauses while descriptors are short */
	int accepted;		      /* such a one, not a peer yet; -1: none */
	gint64 short_since, short_at; /* the begin of that, and the last time; 0: there is enough */
	struct turns *turns;	      /* whose call is next: daemon/turn.h */
	GHashTable *peers;	      /* a set of struct peer */
	GHashTable *monitors;	      /* the peers that have called Monitor */
	GHashTable *sessions;	      /* a set of struct session, by uid and name */
	GTree *by_serial;	      /* the same in the order of their serials */
	GHashTable *devices;	      /* PCI address -> struct session: daemon/devices.h */
	size_t descriptor_limit;      /* that sessions may hold */
	struct event *status;	      /* tells systemd what changed, once for many changes */
	struct event *stop_deadline;
	bool stopping;
};

/*
 * Makes a server without sockets, whose peers have their calls done by call(). Never NULL.
 */
struct server *server_new(struct event_base *base, void (*call)(struct peer *peer));

/* Accepts on a listening socket, which is the server's now. */
void server_listen(struct server *server, int socket);

/* No new connections or calls; ends the loop once every call is answered, or after some seconds. */
void server_stop(struct server *server);

/*
 * Closes everything held. false: work on sessions has not ended, see worker_drain(), and everything
 * is left as it is.
 */
bool server_free(struct server *server);

struct session *server_find_session(const struct server *server, uid_t uid, const char *name);

/* Of any owner that the peer may see; *ret_many: there are several, so NULL. */
struct session *server_search_session(const struct server *server, const struct peer *peer,
				      const char *name, bool *ret_many);

/* The first session whose serial is that or a later one, of those that the peer may see; or NULL. */
struct session *server_next_session(const struct server *server, const struct peer *peer,
				    uint64_t serial);

/* One more than the serial of any session there is. */
uint64_t server_next_serial(const struct server *server);
void server_add_session(struct server *server, struct session *session);
void server_remove_session(struct server *server, struct session *session);
void server_add_monitor(struct server *server, struct peer *peer);
void server_remove_peer(struct server *server, struct peer *peer);

/* Descriptors held in all sessions, and how many of these are orphaned. */
size_t server_descriptors(const struct server *server);
unsigned int server_orphans(const struct server *server);

/* "2 sessions, 53 descriptors", to g_free(); NULL: there is no session. */
char *server_describe_held(const struct server *server);

/* Something that the status line tells has changed. */
void server_changed(struct server *server);

/* What the daemon's own death would lose, as a sentence; NULL: nothing. */
const char *server_loss(const struct server *server);

/*
 * That, or what else an operator should know: what systemd has yet to do, of sessions that the viewer
 * may see by name, or what a stop does. To g_free(); NULL: nothing.
 */
char *server_warning(const struct server *server, uid_t viewer);

#endif
