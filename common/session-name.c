/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of sessions and of their states: common/session-name.h. */
#include "common/session-name.h"

#include <string.h>

static const char *const state_names[SESSION_STATES] = {
	[SESSION_ACTIVE] = "active",	   [SESSION_DETACHED] = "detached",
	[SESSION_ORPHANED] = "orphaned",   [SESSION_RESTORING] = "restoring",
	[SESSION_RELEASING] = "releasing", [SESSION_UNREADABLE] = "unreadable",
};

const char *session_state_name(enum session_state state)
{
	return state_names[state];
}

bool session_name_is_valid(const char *name)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:._@-";
	size_t length = strlen(name);

	return length > 0 && length <= SESSION_NAME_MAX && strspn(name, allowed) == length;
}
