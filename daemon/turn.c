/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A queue of users, each with a queue of connections: daemon/turn.h. */
#include "daemon/turn.h"

#include "daemon/account.h"

/*
 * A timer that has run out is the only kind of event that libevent (2.1, event_process_active())
 * puts behind a look at the sockets: one made active by event_active() is called before that.
 */
static const struct timeval at_once = {0};

struct turns {
	struct event *next;
	GQueue users;  /* of struct account, referenced: some connection of theirs waits */
	GQueue served; /* of struct account, referenced: they have had a turn since the last look */
};

/* The next round, if there is anything to be done in it. */
static void go_on_later(struct turns *turns)
{
	if (turns->users.length + turns->served.length > 0 &&
	    !event_pending(turns->next, EV_TIMEOUT, NULL))
		event_add(turns->next, &at_once);
}

static void note_served(struct turns *turns, struct account *account)
{
	if (account->had_turn)
		return;
	account->had_turn = true;
	account->references++;
	g_queue_push_tail(&turns->served, account);
}

static void forget_served(struct turns *turns)
{
	struct account *account;

	while ((account = g_queue_pop_head(&turns->served))) {
		account->had_turn = false;
		account_put(account);
	}
}

/* The place of the user's connection that waits longest; NULL: it has gone. */
static struct turn *pop_turn(struct turns *turns, struct account *account)
{
	GList *link = g_queue_pop_head_link(&account->turns);
	struct turn *turn = link ? link->data : NULL;

	if (turn)
		turn->waits = false;
	account->waits_turn = account->turns.length > 0;
	if (account->waits_turn)
		g_queue_push_tail(&turns->users, account);
	else
		account_put(account);
	return turn;
}

static void on_next(evutil_socket_t fd, short events, void *data)
{
	struct turns *turns = data;
	struct account *account;
	struct turn *turn = NULL;

	(void)fd;
	(void)events;
	forget_served(turns);
	while (!turn && (account = g_queue_pop_head(&turns->users)))
		turn = pop_turn(turns, account);
	if (turn) {
		note_served(turns, turn->account);
		turn->take(turn->data);
	}
	go_on_later(turns);
}

struct turns *turns_new(struct event_base *base)
{
	struct turns *turns = g_new0(struct turns, 1);

	turns->next = evtimer_new(base, on_next, turns);
	return turns;
}

void turns_free(struct turns *turns)
{
	struct account *account;

	forget_served(turns);
	while ((account = g_queue_pop_head(&turns->users)))
		account_put(account);
	event_free(turns->next);
	g_free(turns);
}

void turn_init(struct turn *turn, struct account *account, void (*take)(void *data), void *data)
{
	*turn = (struct turn){.account = account, .take = take, .data = data};
	turn->link.data = turn;
}

bool turn_take_now(struct turns *turns, struct turn *turn)
{
	if (turn->account->had_turn || turn->account->turns.length > 0)
		return false;
	note_served(turns, turn->account);
	go_on_later(turns);
	return true;
}

void turn_wait(struct turns *turns, struct turn *turn)
{
	struct account *account = turn->account;

	if (turn->waits)
		return;
	turn->waits = true;
	g_queue_push_tail_link(&account->turns, &turn->link);
	if (account->waits_turn)
		return;
	account->waits_turn = true;
	account->references++;
	/* Root waits for one call of another's at most, however many users there are. */
	if (account->uid == 0)
		g_queue_push_head(&turns->users, account);
	else
		g_queue_push_tail(&turns->users, account);
	go_on_later(turns);
}

void turn_cancel(struct turn *turn)
{
	if (turn->waits)
		g_queue_unlink(&turn->account->turns, &turn->link);
	turn->waits = false;
}
