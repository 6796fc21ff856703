/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of a batch on its way into a session: daemon/intake.h. */
#include "daemon/intake.h"

#include <glib.h>

struct intake *intake_new(struct session *session, uid_t uid, struct object_set *objects)
{
	struct intake *intake = g_new0(struct intake, 1);

	intake->session = session;
	intake->uid = uid;
	object_set_init(&intake->objects, objects->account);
	object_set_init(&intake->missing, objects->account);
	object_set_move(&intake->objects, objects);
	return intake;
}

bool intake_is_under_way(const struct intake *intake)
{
	return intake && intake->step;
}

void intake_free(struct intake *intake)
{
	if (!intake)
		return;
	turn_cancel(&intake->turn);
	if (intake->is_moved)
		object_set_forget(&intake->objects, intake->cursor.object);
	object_set_clear(&intake->objects);
	object_set_clear(&intake->missing);
	g_free(intake->why);
	g_free(intake);
}
