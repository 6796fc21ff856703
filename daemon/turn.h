/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whose turn it is. One thread serves everybody, a turn is one call, and a small call may be much
 * work. So a user who has had a turn has the next one after every other user who waits, and after
 * a look at who has come meanwhile; by its next connection that waits, whichever asks most.
 */
#ifndef DAEMON_TURN_H
#define DAEMON_TURN_H

#include <event2/event.h>
#include <glib.h>
#include <stdbool.h>

struct account;
struct turns;

/* A place in the queue, for a connection. */
struct turn {
	struct account *account;
	void (*take)(void *data);
	void *data;
	GList link;
	bool waits;
};

struct turns *turns_new(struct event_base *base);
void turns_free(struct turns *turns);

void turn_init(struct turn *turn, struct account *account, void (*take)(void *data), void *data);

/* Whether the user has its turn at once, as somebody who has had none lately; it is taken then. */
bool turn_take_now(struct turns *turns, struct turn *turn);

/* It is told when its turn has come, by take(data). */
void turn_wait(struct turns *turns, struct turn *turn);
void turn_cancel(struct turn *turn);

#endif
