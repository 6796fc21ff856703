/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Objects that are held: descriptors, and what common/object.h says of them. One object may be a
 * run of alike descriptors (the vectors of a device), so thousands of them cost one name. A set of
 * objects is what a session holds, and what a peer has staged.
 */
#ifndef DAEMON_OBJECT_H
#define DAEMON_OBJECT_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fdlist.h"
#include "common/object.h"

struct object {
	int64_t id;
	enum object_kind kind;
	char *name;
	struct object_attributes attributes;
	GArray *fds;   /* of int; -1: a gap. Owned */
	size_t held;   /* of them not gaps */
	size_t first;  /* number of the first of them: 0, but for what a message has just brought */
	uint64_t size; /* bytes; memory, table, state */
	uint64_t serial;     /* grows from object to object of a set */
	struct tally *tally; /* table only */
};

struct account;

/*
 * In the order of storing, found by kind and name. Peers choose names and ids, so these are trees: no
 * choice of theirs makes a look-up cost more than some comparisons.
 */
struct object_set {
	GPtrArray *objects;
	GPtrArray *tables; /* those of objects that are tables */
	GTree *by_name, *by_id;
	size_t held[OBJECT_KINDS]; /* descriptors: what the quota counts */
	size_t gaps;		   /* numbers in runs that have none */
	struct account *account;   /* whom both count for, borrowed; NULL: nobody yet */
};

/* How far the descriptors of a set have been gone through. */
struct object_cursor {
	guint object;
	size_t number; /* of the descriptor in it */
};

void object_set_init(struct object_set *set, struct account *account);

/* Closes everything, in a worker. It has to be made anew then. */
void object_set_clear(struct object_set *set);

/* Moves every descriptor out to list (gaps left out); the set is empty then. */
void object_set_take_all(struct object_set *set, struct fdlist *list);

/*
 * Moves all out at once, however much it is, and counts it for nobody; the set is empty then. What
 * there was is the caller's, to be closed in the order of storing, and freed, in a thread.
 */
struct object_set *object_set_steal(struct object_set *set);
void object_set_close(struct object_set *stolen);

/*
 * The name as it is kept, to g_free(): a device's, if it is a PCI address, as the kernel spells that,
 * in lower case. So no device has two names.
 */
char *object_spell(enum object_kind kind, const char *name);

struct object *object_set_find(const struct object_set *set, enum object_kind kind,
			       const char *name);
struct object *object_set_find_id(const struct object_set *set, int64_t id);

/* Where in the set's objects the first is whose serial is that or a later one. */
guint object_set_index(const struct object_set *set, uint64_t serial);

/* Descriptors that it holds; and those with the gaps between them. */
size_t object_set_total(const struct object_set *set);
size_t object_set_slots(const struct object_set *set);

/*
 * Why the object cannot be added (a name or id that is taken by something else), a sentence to
 * g_free(); NULL if it can. What is held already, the same open file, is no conflict.
 */
char *object_set_conflict(const struct object_set *set, const struct object *object);

/*
 * The same for the descriptors from *number on, at most *left of those that must be compared, which
 * are counted down. *number tells how far it came; NULL up to there.
 */
char *object_set_conflict_part(const struct object_set *set, const struct object *object,
			       size_t *number, size_t *left);

/*
 * Whether the set has no other object of that kind and name, or of that id. Without it no object can
 * be added; object_set_conflict() looks at the descriptors as well, and explains.
 */
bool object_set_takes(const struct object_set *set, const struct object *object);

/* Adds an object without conflict, which the set owns now: new, more of a run, or a state anew. */
void object_set_add(struct object_set *set, struct object *object);

/* Adds all objects of another set, without conflict, which is empty then. */
void object_set_move(struct object_set *to, struct object_set *from);

/*
 * Adds, likewise, what `held` has not of an object that goes into that without conflict; closes the
 * rest.
 */
void object_set_add_missing(struct object_set *set, struct object *object,
			    const struct object_set *held);

/* The first n objects are another set's by now. What is left is to be cleared, and nothing else. */
void object_set_forget(struct object_set *set, guint n);

/* Takes an object out of the set; the caller frees it by object_free(). */
void object_set_remove(struct object_set *set, struct object *object);

/* Closes what it holds, in a worker. */
void object_free(struct object *object);

/* Has its slots begin with number 0, by gaps. Whatever is in a set has. */
void object_fill_up(struct object *object);

/* Moves its descriptors to list. */
void object_take_all(struct object *object, struct fdlist *list);

/* Whether the object is a file, whose length is told. */
bool object_has_size(const struct object *object);

/*
 * Makes an object of its JSON description, which takes its descriptors out of fds; what they are is
 * not looked at (daemon/look.h). *used counts the indices named. On failure NULL, the descriptors are
 * in fds again, *ret_parameter names what is wrong, a constant, and *ret_message explains, the
 * caller's to g_free().
 */
struct object *object_from_json(json_t *json, struct fdlist *fds, size_t *used,
				const char **ret_parameter, char **ret_message);

/*
 * Makes an object of a record in the daemon's own journal. What was checked is not checked again, and
 * an older daemon may have checked less. On failure both texts are the caller's to g_free().
 */
struct object *object_from_record(json_t *json, struct fdlist *fds, size_t *used,
				  char **ret_parameter, char **ret_message);

/*
 * The JSON description of the run [first, first + count) of the object; first_fd: its index in the
 * message, or -1 if no descriptors travel.
 */
json_t *object_to_json(const struct object *object, size_t first, size_t count, int first_fd);

/* Length of the run without gaps that begins at index `first` (0 if that is a gap). */
size_t object_run(const struct object *object, size_t first);

#endif
