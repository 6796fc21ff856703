/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The unix socket of --socket: made in the place of one that a dead daemon has left. */
#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <sys/types.h>

/* Its file, by which it is known for this daemon's own in the end. */
struct own_socket {
	const char *path; /* NULL: there is none */
	dev_t dev;
	ino_t ino;
};

/*
 * Listens at a path, which stays the caller's. Of several daemons that start on one path at once one
 * has it, and the socket of one that lives is left alone. -1: it cannot, and the reason is logged.
 */
int listen_at(const char *path, mode_t mode, struct own_socket *ret_own);

/*
 * Removes the socket's file, unless another one is there by now. While the socket still listens:
 * until then no other daemon takes its place, and no other file has its inode's number.
 */
void listen_end(const struct own_socket *own);

#endif
