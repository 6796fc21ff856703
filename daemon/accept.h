/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may connect: a process that can be identified, of a user who has not too many connections.
 * While descriptors are short, whoever connects waits. server_listen() (daemon/server.h) is here, too.
 */
#ifndef DAEMON_ACCEPT_H
#define DAEMON_ACCEPT_H

struct server;

/* For daemon/server.c: a new server, which has no sockets yet; one that stops; and its end. */
void accept_begin(struct server *server);
void accept_no_more(struct server *server);
void accept_end(struct server *server);

#endif
