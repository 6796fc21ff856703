/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DAEMON_LEAKCHECK_H
#define DAEMON_LEAKCHECK_H

#include <stdbool.h>

/* Whether this is a sanitizer build, which looks for leaks at its end. */
bool leakcheck_is_on(void);

/*
 * In a sanitizer build: the number of descriptors that are open beyond the three of the terminal,
 * each told on stderr. To be asked when everything is closed. Else 0.
 */
int leakcheck_descriptors(void);

#endif
