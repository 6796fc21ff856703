/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a descriptor is. An allow-list: what is not known for sure is refused, with an explanation.
 * Nothing here asks a file system that could be slow or hostile (FUSE), nor changes a device. What
 * each call waits for is told in identify.c.
 */
#ifndef DAEMON_IDENTIFY_H
#define DAEMON_IDENTIFY_H

#include <stdbool.h>

#include "common/object.h"

/*
 * Whether it is an eventfd. Eventfds come by the thousand, so this is a call or two into the
 * kernel, which wait for nobody: it is for the loop.
 */
bool identify_eventfd(int fd);

/*
 * Checks that fd is what its owner says: a descriptor of this kind (and, for a device, the PCI
 * device of this name, where the kernel tells). NULL: it is. Else a sentence that says what it is
 * instead and why that cannot be held; the caller's to g_free(). It may wait for what its owner has
 * locked: for errands only.
 */
char *identify_refusal(int fd, enum object_kind kind, const char *name);

/*
 * Whether two descriptors are the same open file. Where the kernel cannot tell (before 6.10 and
 * without kcmp): whether they are the same eventfd or inode.
 */
bool identify_same(int a, int b);

#endif
