/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The unit of a session's holder: daemon/unitnote.h. */
#include "daemon/unitnote.h"

#include "daemon/keep.h"
#include "daemon/session.h"
#include "daemon/unitlook.h"

static void note(void *data, char *unit)
{
	struct session *session = data;

	session->unit_look = NULL;
	if (!unit)
		return;
	g_free(session->unit);
	session->unit = unit;
	/* Elsewhere its state is about to change, and is kept with the unit then. */
	if (!session->busy &&
	    (session->state == SESSION_ACTIVE || session->state == SESSION_ORPHANED))
		keep_state_later(session);
}

void unitnote_begin(struct session *session)
{
	session->unit_look = unit_look_begin(session->account, session->holder.pid,
					     session->holder.pidfd, note, session);
}
