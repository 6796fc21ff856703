/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What daemon and library call a session, and the states of one. */
#ifndef VFIO_CPR_COMMON_SESSION_NAME_H
#define VFIO_CPR_COMMON_SESSION_NAME_H

#include <stdbool.h>

#define SESSION_NAME_MAX 64

/* In the journal by number, and on the wire by name (type State of io.vfiocpr.Session). */
enum session_state {
	SESSION_ACTIVE,
	SESSION_DETACHED, /* its holder has prepared and let go */
	SESSION_ORPHANED,
	SESSION_RESTORING,
	SESSION_RELEASING,
	SESSION_UNREADABLE, /* its journal cannot be read: kept as it is until it is released */
	SESSION_STATES,
};

const char *session_state_name(enum session_state state);

/* 1 to 64 of A-Z a-z 0-9 : . _ @ - */
bool session_name_is_valid(const char *name);

#endif
