/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process's unit, looked up in a thread: daemon/unitlook.h. */
#include "daemon/unitlook.h"

#include <glib.h>

#include "daemon/account.h"
#include "daemon/errand.h"
#include "daemon/unit.h"

struct unit_look {
	pid_t pid;
	char *unit;			      /* what was found */
	void (*done)(void *data, char *unit); /* NULL: it was dropped */
	void *data;
};

static void look_in_thread(void *data)
{
	struct unit_look *look = data;

	look->unit = unit_of(look->pid);
}

static void finish(void *data)
{
	struct unit_look *look = data;

	if (look->done)
		look->done(look->data, g_steal_pointer(&look->unit));
	g_free(look->unit);
	g_free(look);
}

struct unit_look *unit_look_begin(struct account *account, pid_t pid,
				  void (*done)(void *data, char *unit), void *data)
{
	struct unit_look *look = g_new(struct unit_look, 1);

	*look = (struct unit_look){.pid = pid, .done = done, .data = data};
	if (errand_run_look_up(account, look_in_thread, finish, look))
		return look;
	g_free(look);
	return NULL;
}

bool unit_looks_wait(const struct account *account)
{
	return account->errands_waiting[ERRAND_LOOK_UP].length > 0;
}

void unit_look_drop(struct unit_look *look)
{
	if (look)
		look->done = NULL;
}
