/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel tells of a descriptor beside its type, from two directories of /proc that are kept
 * open: /proc/self/fd and /proc/self/fdinfo. A name in them is looked up under a lock of theirs
 * alone, and nobody but root and the daemon's own user can open them. On the way from the root of
 * /proc there are locks that anybody can hold: getdents() into a page of a FUSE file keeps a
 * directory locked, and an open() with O_CREAT that waits for it keeps everybody out.
 */
#ifndef DAEMON_FDINFO_H
#define DAEMON_FDINFO_H

#include <stdbool.h>
#include <stddef.h>

/* Opens both; else the first that asks does. -errno: /proc is not there, or not usable. */
int fdinfo_begin(void);
void fdinfo_end(void);

/*
 * What the descriptor's link says, such as "anon_inode:[eventfd]" or a path. 0, or -errno: what
 * fdinfo_begin() has had, or that there is no such descriptor.
 */
int fdinfo_link(int fd, char *ret_target, size_t size);

/*
 * Reads a field of its fdinfo. key: with its colon, such as "eventfd-count:". false: there is none.
 */
bool fdinfo_field(int fd, const char *key, char *ret_value, size_t size);

#endif
