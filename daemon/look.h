/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A look at what a message brought: whether each descriptor is what it is said to be
 * (daemon/identify.h), and how large files are. Eventfds are known at once. All else is looked at in one errand for the whole message, as
 * its owner can make that take for ever: that costs the message and its connection, and nobody else.
 *
 * A look that nobody waits for any more ends some day by itself. Its descriptors stay counted for
 * the user until they are closed, and so does the message, like those of unwanted_close().
 */
#ifndef DAEMON_LOOK_H
#define DAEMON_LOOK_H

#include <glib.h>
#include <stdbool.h>

struct account;
struct look;
struct object;

/* In that user's name. Never NULL. */
struct look *look_new(struct account *account);

/* The object is the look's now. One of eventfds is looked at here. */
void look_add(struct look *look, struct object *object);

/*
 * Looks. true: it is over already. false: done(data) will run in the loop when it is, even if the
 * look is dropped before.
 */
bool look_begin(struct look *look, void (*done)(void *data), void *data);

/* Once it is over: why an object is refused, a sentence; NULL: none is. */
const char *look_refusal(const struct look *look);

/* The next object, the caller's then; NULL: that was the last. */
struct object *look_take(struct look *look);

/* Ends it, under way or over, and closes what was not taken. NULL is none. */
void look_drop(struct look *look);

#endif
