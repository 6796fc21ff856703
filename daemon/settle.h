/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Settling the address spaces of a session that lost its holder, each by space.c: first they are
 * noted in the loop, then settled in a thread, then what was found goes into the session. Meanwhile
 * the session is busy, and its descriptors and tables stay what they are.
 */
#ifndef DAEMON_SETTLE_H
#define DAEMON_SETTLE_H

#include <glib.h>

struct session;

/* Notes the session's address spaces, as they have to be settled. Never NULL. */
GArray *settle_plan(const struct session *session);

/* Settles them: for a thread, as it may take 100 ms. */
void settle_run(GArray *plan);

/* Puts what was found into session->spaces, and warns of what went wrong. Frees the plan. */
void settle_finish(GArray *plan, struct session *session);

#endif
