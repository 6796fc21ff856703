/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which session has which PCI device. A device goes from one session to another only over its reset,
 * so it stays with the one that had it until it is closed, by the kernel too.
 */
#ifndef DAEMON_DEVICES_H
#define DAEMON_DEVICES_H

#include <glib.h>

struct object_set;
struct server;
struct session;

GHashTable *devices_new(void);

/* The devices of the set, which go into the session, are its now. */
void devices_take(struct server *server, struct session *session, const struct object_set *set);

/*
 * What the session holds without knowing what it is (daemon/opaque.h) has the name of a device: that
 * device is its, unless it is one that a session knows.
 */
void devices_take_opaque(struct server *server, struct session *session);

/* One that the session does not hold any more, and that may not be closed yet, likewise. */
void devices_take_closing(struct server *server, struct session *session, const char *name);

/*
 * The session that has it: holds it, or may not be done with closing it; NULL: none. The name is as
 * object_spell() has it.
 */
struct session *devices_holder(const struct server *server, const char *name);

/* What was taken out of the session is closed: devices that it does not hold are nobody's now. */
void devices_drop_closed(struct server *server, struct session *session);

/* The session is gone. */
void devices_drop_all(struct server *server, const struct session *session);

#endif
