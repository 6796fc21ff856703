/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is said of an object, by the daemon and by the library alike: its kind, its name, the
 * attributes that the kernel cannot tell back, the limits of them, and all this as it stands in a
 * message (type Object of io.vfiocpr.Session). Its descriptors are its owner's business:
 * daemon/object.h and client/inventory.h.
 */
#ifndef COMMON_OBJECT_H
#define COMMON_OBJECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum object_kind {
	OBJECT_CONTAINER,
	OBJECT_GROUP,
	OBJECT_DEVICE,
	OBJECT_IOMMUFD,
	OBJECT_MEMORY,
	OBJECT_EVENTFD,
	OBJECT_TABLE,
	OBJECT_STATE,
};
#define OBJECT_KINDS 8

#define OBJECT_NAME_MAX 255	   /* bytes */
#define OBJECT_MAX_FDS	65536	   /* of one object and of one batch; MSI-X has 2048 vectors */
#define OBJECT_MAX_ID	UINT32_MAX /* a table's slot has room for that */
#define STATE_MAX_BYTES (16 * 1024 * 1024)

/* The kind's name on the wire, and back; -1 if unknown. */
const char *object_kind_name(enum object_kind kind);
int object_kind_from_name(const char *name);

/*
 * Whether it is 1 to OBJECT_NAME_MAX bytes of UTF-8 without control characters. The daemon takes no
 * new name that is not plain (common/plain.h), but older ones did, and what they hold has a name.
 */
bool object_name_is_valid(const char *name);

/* What only its owner knows of an object. NULL or -1: not given. */
struct object_attributes {
	char *space, *device;
	json_int_t irq_index, irq_action, devid, ioas_id, hwpt_id;
};

#define OBJECT_ATTRIBUTES_NONE                                                                  \
	((struct object_attributes){NULL, NULL, .irq_index = -1, .irq_action = -1, .devid = -1, \
				    .ioas_id = -1, .hwpt_id = -1})

/* A copy with strings of its own; and an end to them. */
struct object_attributes object_attributes_copy(const struct object_attributes *attributes);
void object_attributes_clear(struct object_attributes *attributes);

/* A run of an object's descriptors in a message. The strings are borrowed, from the JSON parsed. */
struct object_description {
	json_int_t id;
	enum object_kind kind;
	const char *name;
	json_int_t first, count;     /* of the run, within the object. -1: left out */
	json_int_t first_descriptor; /* its index in the message. -1: left out */
	json_int_t size;	     /* bytes; memory, table, state. -1: left out */
	struct object_attributes attributes;
};

/*
 * Parses a description that came with n_fds descriptors. The run is within the object and within
 * those. strict: fields that are not known are an error. NULL, or a sentence to g_free(), and in
 * *ret_parameter the field it is about, a constant.
 */
char *object_description_parse(json_t *json, bool strict, size_t n_fds,
			       struct object_description *ret_description,
			       const char **ret_parameter);

json_t *object_description_to_json(const struct object_description *description);

#endif
