/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the log tells of a session's life. Whoever reads it knows units and devices, and asks when
 * the VM was gone and when it was back: that is what each line names.
 */
#ifndef DAEMON_LIFELOG_H
#define DAEMON_LIFELOG_H

#include <glib.h>

/* " of UNIT", or nothing; to g_free(). */
char *lifelog_of_unit(const char *unit);

#endif
