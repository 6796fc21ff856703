/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DAEMON_FDINFO_H
#define DAEMON_FDINFO_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Reads a field of /proc/self/fdinfo: what the kernel tells of a descriptor beside its type. key:
 * with its colon, such as "eventfd-count:". false: there is none.
 */
bool fdinfo_field(int fd, const char *key, char *ret_value, size_t size);

#endif
