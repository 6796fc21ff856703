/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Objects of a journal that this daemon cannot use: of a kind or with an attribute of a newer daemon,
 * of a name that was allowed once, or broken. One such object is no reason to do without the others
 * of its session. It is held and written again as it came, so that a daemon that knows it can use it;
 * it is handed to nobody, and ends with its session.
 */
#ifndef DAEMON_OPAQUE_H
#define DAEMON_OPAQUE_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "common/fdlist.h"

struct object;

/* Some of one record. */
struct opaque {
	json_t *objects;   /* an array, as in the record */
	struct fdlist fds; /* as numbered there; -1: of another object */
	char *reason;	   /* what is wrong with the first */
};

/* A list of struct opaque, with g_ptr_array_unref(): that closes them, in a worker. */
GPtrArray *opaque_list_new(void);

/* Adds objects of a record (a reference of the caller's) and all descriptors of fds; copies reason. */
void opaque_list_add(GPtrArray *list, json_t *objects, struct fdlist *fds, const char *reason);

/* Adds an object, which is freed. */
void opaque_list_add_object(GPtrArray *list, struct object *object, const char *reason);

/* Moves all from one list to the end of another. */
void opaque_list_move(GPtrArray *to, GPtrArray *from);

/* Moves every descriptor out to fds; the list is empty then. */
void opaque_list_take_all(GPtrArray *list, struct fdlist *fds);

/* Takes out the objects of that kind and name, with what is needed for no other. true: there was one. */
bool opaque_list_remove(GPtrArray *list, const char *kind, const char *name);

/* How many descriptors are held so. */
size_t opaque_list_count(const GPtrArray *list);

/* Names of the devices among them, as object_spell() has them, with g_ptr_array_unref(). */
GPtrArray *opaque_list_devices(const GPtrArray *list);

/* "2 objects cannot be used by this daemon, the first being device x: why", to g_free(); NULL: none. */
char *opaque_list_describe(const GPtrArray *list);

#endif
