/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What systemd hands to a starting daemon: listening sockets, and the journals of the one that
 * died. Reading consumes nothing, so dying in the middle of it is harmless.
 */
#ifndef DAEMON_RECOVERY_H
#define DAEMON_RECOVERY_H

struct server;

/* Takes over all descriptors from systemd. Returns how many listening sockets there were. */
int recovery_run(struct server *server);

/*
 * Reads again what could not be read or used: what it lacked, such as room for descriptors, may be
 * there now. What is wrong with one that still cannot be is told again.
 */
void recovery_again(struct server *server);

#endif
