/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A timer for each thing that is owed: daemon/owed.h. */
#include "daemon/owed.h"

#include <glib.h>

#define FIRST_PAUSE_SEC 1
#define LAST_PAUSE_SEC	60

struct owed {
	uid_t uid;
	void (*again)(void *data);
	void *data;
	char *why; /* NULL: it is not owed */
	unsigned int pause;
	struct event *timer;
	GList link; /* in owed_now, while it is owed */
};

static struct event_base *owed_base;
static GQueue owed_now = G_QUEUE_INIT; /* of struct owed, the oldest first */

void owed_start(struct event_base *base)
{
	owed_base = base;
}

static void on_timer(evutil_socket_t fd, short events, void *data)
{
	struct owed *owed = data;

	(void)fd;
	(void)events;
	owed->again(owed->data);
}

struct owed *owed_new(uid_t uid, void (*again)(void *data), void *data)
{
	struct owed *owed = g_new0(struct owed, 1);

	owed->uid = uid;
	owed->again = again;
	owed->data = data;
	owed->link.data = owed;
	return owed;
}

void owed_free(struct owed *owed)
{
	if (!owed)
		return;
	owed_settle(owed);
	g_free(owed);
}

bool owed_note(struct owed *owed, const char *why)
{
	bool is_news = g_strcmp0(owed->why, why) != 0;
	struct timeval pause;

	if (!owed->why) {
		owed->timer = evtimer_new(owed_base, on_timer, owed);
		g_queue_push_tail_link(&owed_now, &owed->link);
	}
	if (is_news) {
		g_free(owed->why);
		owed->why = g_strdup(why);
	}
	owed->pause = owed->pause ? MIN(2 * owed->pause, LAST_PAUSE_SEC) : FIRST_PAUSE_SEC;
	pause = (struct timeval){.tv_sec = owed->pause};
	event_add(owed->timer, &pause);
	return is_news;
}

void owed_try(struct owed *owed)
{
	if (owed->timer)
		event_del(owed->timer);
}

bool owed_settle(struct owed *owed)
{
	if (!owed->why)
		return false;
	g_queue_unlink(&owed_now, &owed->link);
	g_clear_pointer(&owed->timer, event_free);
	g_clear_pointer(&owed->why, g_free);
	owed->pause = 0;
	return true;
}

const char *owed_why(const struct owed *owed)
{
	return owed->why;
}

char *owed_warning(uid_t viewer)
{
	const char *first = NULL;
	unsigned int others = 0;

	for (const GList *item = owed_now.head; item; item = item->next) {
		const struct owed *owed = item->data;
		bool may_see = viewer == 0 || viewer == owed->uid;

		others += first || !may_see;
		if (!first && may_see)
			first = owed->why;
	}
	if (!first && others == 0)
		return NULL;
	if (!first)
		return g_strdup_printf(
			"systemd and the daemon do not agree yet on %u thing%s of other "
			"users; it is tried again",
			others, others == 1 ? "" : "s");
	if (others == 0)
		return g_strdup_printf("%s; it is tried again until it is done", first);
	return g_strdup_printf("%s (and so on: %u more); it is tried again until it is done", first,
			       others);
}
