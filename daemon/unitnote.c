/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The unit of a session's holder: daemon/unitnote.h. */
#include "daemon/unitnote.h"

#include <glib.h>

#include "daemon/intake.h"
#include "daemon/keep.h"
#include "daemon/process.h"
#include "daemon/session.h"
#include "daemon/unitlook.h"

static void note(void *data, char *unit)
{
	struct session *session = data;

	session->unit_look = NULL;
	/* If the process lives still, the number was its own when the unit was looked up. */
	if (!unit || !process_lives(session->holder.pidfd)) {
		g_free(unit);
		return;
	}
	g_free(session->unit);
	session->unit = unit;
	/* Elsewhere its state is about to be kept anyway, with the unit then. */
	if ((!session->busy || intake_is_under_way(session->intake)) &&
	    session->state == SESSION_ACTIVE)
		keep_state_later(session);
}

void unitnote_begin(struct session *session)
{
	if (session->holder.pid > 0)
		session->unit_look =
			unit_look_begin(session->account, session->holder.pid, note, session);
}
