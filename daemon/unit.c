/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd calls a process: daemon/unit.h. */
#include "daemon/unit.h"

#include <glib.h>
#include <stdlib.h>
#include <systemd/sd-login.h>

#include "daemon/process.h"

char *unit_of(pid_t pid, int pidfd)
{
	char *unit = NULL, *copy;

	/* malloc'ed by libsystemd; -ENODATA where the process is in no unit. */
	if (pid <= 0 || pidfd < 0 || sd_pid_get_unit(pid, &unit) < 0)
		return NULL;
	/* If the process lives still, the number was its own when the unit was looked up. */
	copy = process_lives(pidfd) ? g_utf8_make_valid(unit, -1) : NULL;
	free(unit);
	return copy;
}
