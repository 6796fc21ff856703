/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For peer-in.c: the side of a connection on which answers go out. What methods call is in peer.h. */
#ifndef DAEMON_PEER_OUT_H
#define DAEMON_PEER_OUT_H

struct peer;

/* A new connection: from now on it can be answered. */
void peer_out_begin(struct peer *peer);

#endif
