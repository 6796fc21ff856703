/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon takes from itself once it has started: system calls that it makes while it starts
 * or never, and that whoever has taken it over would like to have. docs/security.md tells what is
 * left.
 */
#ifndef DAEMON_SANDBOX_H
#define DAEMON_SANDBOX_H

#include <stdbool.h>

/*
 * From here on such a call fails with EPERM, or with ENOSYS where its user knows another way; in all
 * threads, and for good. It does not kill: a library that only tries one would end the daemon each
 * time it is started, and who has taken it over is stopped by an error as well.
 *
 * leaks_are_sought: but for what the leak sanitizer needs at the end. -errno: it cannot be done, and
 * nothing is taken.
 */
int sandbox_enter(bool leaks_are_sought);

#endif
