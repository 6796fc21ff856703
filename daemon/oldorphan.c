/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A timer for each orphan, which fires once; without orphans there is none: daemon/oldorphan.h. */
#include "daemon/oldorphan.h"

#include <event2/event.h>
#include <glib.h>

#include "daemon/happen.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define OLD_USEC (10 * 60 * G_USEC_PER_SEC) /* most VMMs that come back do so within seconds */

static void on_old(evutil_socket_t fd, short events, void *data)
{
	(void)fd;
	(void)events;
	session_happened(data, HAPPENED_AGED, NULL);
}

void oldorphan_watch(struct session *session)
{
	gint64 left = MAX(session->since + OLD_USEC - g_get_monotonic_time(), 0);
	struct timeval time = {left / G_USEC_PER_SEC, left % G_USEC_PER_SEC};

	oldorphan_forget(session);
	session->old = evtimer_new(session->server->base, on_old, session);
	event_add(session->old, &time);
}

void oldorphan_forget(struct session *session)
{
	g_clear_pointer(&session->old, event_free);
}
