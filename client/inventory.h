/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the session holds, here as in the daemon. */
#ifndef CLIENT_INVENTORY_H
#define CLIENT_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct call_error;
struct connection;
struct vfio_cpr;

/* One object of the session: descriptors with a kind and a name. Owned by the inventory. */
enum entry_kind {
	ENTRY_CONTAINER,
	ENTRY_GROUP,
	ENTRY_DEVICE,
	ENTRY_IOMMUFD,
	ENTRY_MEMORY,
	ENTRY_EVENTFD,
	ENTRY_TABLE,
	ENTRY_STATE,
};

struct entry {
	enum entry_kind kind;
	uint32_t id; /* 0: not given yet */
	char *name;
	int *fds; /* by number within the object; -1: a gap. Owned */
	uint32_t n_fds;
	char *space;			 /* group, device; else NULL */
	char *device;			 /* eventfd of a device; else NULL */
	int32_t irq_index, irq_action;	 /* eventfd of a device; else -1 */
	int64_t devid, ioas_id, hwpt_id; /* -1: none */
	bool restored;			 /* handed back, not made by this process */
};

struct entry *entry_new(enum entry_kind kind, const char *name);
void entry_free(struct entry *entry); /* closes what it holds; NULL is fine */
static inline void entry_clear(struct entry **entry)
{
	entry_free(*entry);
}
#define auto_entry __attribute__((cleanup(entry_clear))) struct entry *
void entry_set_fd(struct entry *entry, uint32_t index, int fd);
int entry_fd(const struct entry *entry, uint32_t index); /* -1: none */
const char *entry_kind_name(enum entry_kind kind);

void inventory_init(struct vfio_cpr *cpr);
void inventory_clear(struct vfio_cpr *cpr);
struct entry *inventory_find(struct vfio_cpr *cpr, enum entry_kind kind, const char *name);
struct entry *inventory_find_id(struct vfio_cpr *cpr, uint32_t id);

/* A type1 group that has joined the space of that name, or NULL: its container has no IOMMU. */
struct entry *inventory_group(struct vfio_cpr *cpr, const char *space);

/*
 * Stores n entries in one step. An entry whose object the session has already brings more
 * descriptors for it (or, of kind state, replaces it). On success the inventory owns their
 * descriptors, entries[i] is the object's entry now. On failure nothing is changed.
 */
int inventory_store(struct vfio_cpr *cpr, struct entry **entries, size_t n);

/* Fetches everything the daemon holds; restored: it was handed back. */
int inventory_fetch(struct vfio_cpr *cpr, bool restored);

/* Removes an object in the daemon, then here. */
int inventory_remove(struct vfio_cpr *cpr, enum entry_kind kind, const char *name);

/* For a resumed link: to a daemon that lost the session, and from one that may have more of it. */
int inventory_store_all(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			struct call_error *ret_error);
int inventory_adopt(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
		    struct call_error *ret_error);

#endif
