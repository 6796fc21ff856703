/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the daemon runs: what a container or a sandbox of its own hides from it. It serves what it
 * can tell, and refuses the rest.
 */
#ifndef DAEMON_SURROUNDINGS_H
#define DAEMON_SURROUNDINGS_H

#include <stdbool.h>
#include <sys/types.h>

/* Looks around once, at the start, and logs what is amiss. */
void surroundings_look(void);

/*
 * Whether this uid is not one user but all those whom the daemon's user namespace does not know,
 * perhaps besides one whom it does.
 */
bool surroundings_blur(uid_t uid);

#endif
