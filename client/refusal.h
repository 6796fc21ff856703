/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why nobody could be connected to, in words. Used by the library and by vfio-cprctl. */
#ifndef CLIENT_REFUSAL_H
#define CLIENT_REFUSAL_H

/*
 * Why connection_open() failed with error (-errno) at path, and what to do about it: the part of a
 * sentence after the colon, to be g_free()d. Looks at the path and at /proc/net/unix for that.
 */
char *refusal_tell(const char *path, int error);

#endif
