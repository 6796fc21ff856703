/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the session holds, here as in the daemon. */
#ifndef CLIENT_INVENTORY_H
#define CLIENT_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/object.h"

struct call_error;
struct connection;
struct vfio_cpr;

/* One object of the session: descriptors with a kind and a name. Owned by the inventory. */
struct object {
	enum object_kind kind;
	uint32_t id; /* 0: not given yet */
	char *name;
	int *fds; /* by number within the object; -1: a gap. Owned */
	uint32_t n_fds;
	struct object_attributes attributes;
	bool restored; /* handed back, not made by this process */
};

struct object *object_new(enum object_kind kind, const char *name);
void object_free(struct object *object); /* closes what it holds; NULL is fine */
static inline void object_clear(struct object **object)
{
	object_free(*object);
}
#define auto_object __attribute__((cleanup(object_clear))) struct object *
void object_set_fd(struct object *object, uint32_t index, int fd);
int object_fd(const struct object *object, uint32_t index); /* -1: none */

void inventory_init(struct vfio_cpr *cpr);
void inventory_clear(struct vfio_cpr *cpr);
struct object *inventory_find(struct vfio_cpr *cpr, enum object_kind kind, const char *name);
struct object *inventory_find_id(struct vfio_cpr *cpr, uint32_t id);

/* A type1 group that has joined the space of that name, or NULL: its container has no IOMMU. */
struct object *inventory_group(struct vfio_cpr *cpr, const char *space);

/*
 * Stores n objects in one step. One that the session has already brings more descriptors for it
 * (or, of kind state, replaces it). On success they are the inventory's, and objects[i] is what it
 * has now. On failure nothing is changed.
 */
int inventory_store(struct vfio_cpr *cpr, struct object **objects, size_t n);

/* Fetches everything the daemon holds; restored: it was handed back. */
int inventory_fetch(struct vfio_cpr *cpr, bool restored);

/* Removes an object in the daemon, then here. */
int inventory_remove(struct vfio_cpr *cpr, enum object_kind kind, const char *name);

/* For a resumed link: to a daemon that lost the session, and from one that may have more of it. */
int inventory_store_all(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			struct call_error *ret_error);
int inventory_adopt(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
		    struct call_error *ret_error);

#endif
