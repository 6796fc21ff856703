/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The methods of the interfaces: one function each, which checks the parameters, acts on a session
 * and answers (or waits for the session, and says what goes on then). All that a peer can cause is
 * an answer.
 */
#ifndef DAEMON_METHODS_H
#define DAEMON_METHODS_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

struct peer;
struct server;
struct session;

/* Does the call that the peer has under way. */
void methods_dispatch(struct peer *peer);

/* org.varlink.service */
void method_get_info(struct peer *peer);
void method_get_interface_description(struct peer *peer);

/* A session and its holder: methods-hold.c */
void method_attach(struct peer *peer);
void method_commit(struct peer *peer);
void method_release(struct peer *peer);

/* Objects into it: methods-store.c */
void method_store(struct peer *peer);

/* What the peer has staged into its session, and the answer to that: methods-intake.c */
void method_take_in(struct peer *peer, struct session *session);

/* And back: methods-objects.c */
void method_fetch(struct peer *peer);
void method_remove(struct peer *peer);

/* Viewing: methods-list.c, methods-show.c, methods-mappings.c, methods-view.c. It changes nothing. */
void method_list(struct peer *peer);
void method_show(struct peer *peer);
void method_mappings(struct peer *peer);
void method_monitor(struct peer *peer);
void method_status(struct peer *peer);

/*
 * Handles the deaths that the loop has not come to yet, so that every answer after this one tells
 * of the same states. It may close peers.
 */
void method_notice_deaths(const struct server *server);

/* What they share: methods-common.c */

/* Of an answer that can be one of several: a piece that makes it longer is the last. */
#define METHOD_PAGE_BYTES (64 * 1024)

/*
 * Appends an item to the text of what is between the brackets of an array: a long answer is put into
 * words as it is made, once, and not in one piece at its end. The item is consumed.
 */
void method_add(GString *array, json_t *item);

/* Appends "name":[items] to the text of an object, whose bracket is there. */
void method_add_array(GString *object, const char *name, const GString *items);

/* Appends the cursor of the next page, if there is one (not 0), and the end of the object. */
void method_add_next(GString *object, json_int_t next);

/* false: it is no cursor that the daemon has given, and InvalidParameter has been answered. */
bool method_cursor(struct peer *peer, json_int_t cursor);

/*
 * Unpacks the call's parameters by a json_unpack() format, which should end in "!" so that unknown
 * fields are refused. false: InvalidParameter has been answered.
 */
bool method_unpack(struct peer *peer, const char *format, ...);

#define NO_UID ((uid_t)-1) /* the kernel's, too: no process can have it */

/*
 * The user that a parameter uid names (unpacked as "s?o"; NULL: not given, *ret_uid stays as it is).
 * false: an error has been answered, as there is no such user or the peer may not act on its things.
 */
bool method_owner(struct peer *peer, const json_t *json, uid_t *ret_uid);

/* The session meant by name and parameter uid. NULL: an error has been answered. */
struct session *method_find_session(struct peer *peer, const char *name, const json_t *uid);

/*
 * The session that the peer holds and can change now. NULL: an error has been answered; or the
 * session is busy, and the call goes on with then(peer).
 */
struct session *method_held_session(struct peer *peer, void (*then)(struct peer *peer));

/*
 * A change that the journal did not take: it is written anew, with the session as it is now. Then
 * the call goes on with then(peer), and session->debt tells how it went.
 */
void method_keep_anew(struct peer *peer, struct session *session, void (*then)(struct peer *peer));

/* true: the session's state is kept. Else as method_keep_anew(), with all that may help. */
bool method_keep_state(struct peer *peer, struct session *session, void (*then)(struct peer *peer));

/* Answers a change of the session's state that is made and, as its debt tells, kept or not. */
void method_finish_change(struct peer *peer);

/* What was done is not in the journal: it may be undone by the daemon's death, and is no success. */
void method_fail_unkept(struct peer *peer, const struct session *session);

/* What the session had is closed here, and systemd has not let go of it: it is not released yet. */
void method_fail_release(struct peer *peer, const struct session *session);

#endif
