/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which numbers the kernel has given to drivers, from /proc/devices and /proc/misc, which are kept
 * open and read anew each time, as drivers may come later. /sys tells the same, but by directories
 * that anybody can lock (daemon/fdinfo.h), and a thread that waits for such a lock cannot be killed.
 */
#ifndef DAEMON_DEVNUMBERS_H
#define DAEMON_DEVNUMBERS_H

#include <stdbool.h>

/* Opens both; else the first that asks does. false: they are not there, and nothing can be told. */
bool devnumbers_begin(void);
void devnumbers_end(void);

/* Whether these are numbers of a character device of that driver; of that miscellaneous device. */
bool devnumbers_is_driver(unsigned int major_number, const char *driver);
bool devnumbers_is_misc(unsigned int major_number, unsigned int minor_number, const char *name);

#endif
