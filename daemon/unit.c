/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd calls a process: daemon/unit.h. */
#include "daemon/unit.h"

#include <glib.h>
#include <stdlib.h>
#include <systemd/sd-login.h>

char *unit_of(pid_t pid)
{
	char *unit = NULL, *copy;

	/* malloc'ed by libsystemd; -ENODATA where the process is in no unit. */
	if (sd_pid_get_unit(pid, &unit) < 0)
		return NULL;
	copy = g_utf8_make_valid(unit, -1);
	free(unit);
	return copy;
}
