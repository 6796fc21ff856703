/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors that a peer sent and nobody took. Their close can hang as long as the sender likes (a
 * socket that lingers, a FUSE file), and a thread with it. So each message's are counted for its
 * user until they are closed; a user who has too many of them is not listened to.
 */
#ifndef DAEMON_UNWANTED_H
#define DAEMON_UNWANTED_H

#include <stdbool.h>
#include <stddef.h>

struct account;

/* Closes them in a thread, which nothing waits for. */
void unwanted_close(struct account *account, const int *fds, size_t n);

/*
 * Closes a connection of that user. If there are descriptors in it that were not received, the kernel
 * closes them with it; then, and only then, that is done in a thread. Whoever has too many that
 * hang has the others' hanging cut short.
 */
void unwanted_close_socket(struct account *account, int socket);

/*
 * Closes a connection at whose other end nobody is any more, if all it has left there is a part of a
 * message, and no descriptors. false: it is not so.
 */
bool unwanted_close_if_given_up(int socket);

#endif
