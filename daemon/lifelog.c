/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sentences of a session's life: daemon/lifelog.h. */
#include "daemon/lifelog.h"

char *lifelog_of_unit(const char *unit)
{
	return unit ? g_strconcat(" of ", unit, NULL) : g_strdup("");
}
