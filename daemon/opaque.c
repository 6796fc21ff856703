/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is held without being understood: daemon/opaque.h. */
#include "daemon/opaque.h"

#include <string.h>

#include "daemon/object.h"
#include "daemon/worker.h"

#define OPAQUE_RUN 252 /* descriptors in one: as many as fit into a record */

static void opaque_free(gpointer data)
{
	struct opaque *opaque = data;

	json_decref(opaque->objects);
	opaque->fds.close_all = worker_close_all;
	fdlist_clear(&opaque->fds);
	g_free(opaque->reason);
	g_free(opaque);
}

GPtrArray *opaque_list_new(void)
{
	return g_ptr_array_new_with_free_func(opaque_free);
}

void opaque_list_add(GPtrArray *list, json_t *objects, struct fdlist *fds, const char *reason)
{
	struct opaque *opaque = g_new0(struct opaque, 1);

	opaque->objects = objects;
	opaque->reason = g_strdup(reason);
	fdlist_move(&opaque->fds, fds);
	g_ptr_array_add(list, opaque);
}

void opaque_list_add_object(GPtrArray *list, struct object *object, const char *reason)
{
	size_t run;

	/* A run for each record that it came in: no list is longer than a message of them. */
	for (size_t at = 0; at < object->fds->len; at += MAX(run, 1)) {
		struct fdlist fds = FDLIST_INIT;
		json_t *objects = json_array();

		run = MIN(object_run(object, at), OPAQUE_RUN);
		if (run == 0) {
			json_decref(objects);
			continue;
		}
		json_array_append_new(objects, object_to_json(object, at, run, 0));
		fdlist_append(&fds, &g_array_index(object->fds, int, at), run);
		for (size_t i = at; i < at + run; i++)
			g_array_index(object->fds, int, i) = -1;
		opaque_list_add(list, objects, &fds, reason);
	}
	object_free(object);
}

void opaque_list_move(GPtrArray *to, GPtrArray *from)
{
	for (guint i = 0; i < from->len; i++)
		g_ptr_array_add(to, g_steal_pointer(&g_ptr_array_index(from, i)));
	/* What was moved is not there to be freed. */
	g_ptr_array_set_free_func(from, NULL);
	g_ptr_array_set_size(from, 0);
	g_ptr_array_set_free_func(from, opaque_free);
}

void opaque_list_take_all(GPtrArray *list, struct fdlist *fds)
{
	for (guint i = 0; i < list->len; i++) {
		struct opaque *opaque = g_ptr_array_index(list, i);

		for (size_t at = 0; at < opaque->fds.n; at++) {
			int fd = fdlist_take(&opaque->fds, at);

			if (fd >= 0)
				fdlist_append(fds, &fd, 1);
		}
	}
	g_ptr_array_set_size(list, 0);
}

static bool is_called(const json_t *object, const char *kind, const char *name)
{
	return g_strcmp0(json_string_value(json_object_get(object, "kind")), kind) == 0 &&
	       g_strcmp0(json_string_value(json_object_get(object, "name")), name) == 0;
}

static bool opaque_remove(struct opaque *opaque, const char *kind, const char *name)
{
	bool found = false;

	for (size_t i = json_array_size(opaque->objects); i-- > 0;) {
		if (!is_called(json_array_get(opaque->objects, i), kind, name))
			continue;
		json_array_remove(opaque->objects, i);
		found = true;
	}
	return found;
}

bool opaque_list_remove(GPtrArray *list, const char *kind, const char *name)
{
	bool found = false;

	/* Which descriptors are whose is not known: they go with the last object of the record. */
	for (guint i = list->len; i-- > 0;) {
		struct opaque *opaque = g_ptr_array_index(list, i);

		found |= opaque_remove(opaque, kind, name);
		if (json_array_size(opaque->objects) == 0)
			g_ptr_array_remove_index(list, i);
	}
	return found;
}

size_t opaque_list_count(const GPtrArray *list)
{
	size_t n = 0;

	for (guint i = 0; i < list->len; i++) {
		const struct opaque *opaque = g_ptr_array_index(list, i);

		for (size_t at = 0; at < opaque->fds.n; at++)
			n += opaque->fds.fds[at] >= 0;
	}
	return n;
}

GPtrArray *opaque_list_devices(const GPtrArray *list)
{
	GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

	for (guint i = 0; i < list->len; i++) {
		const struct opaque *opaque = g_ptr_array_index(list, i);
		const json_t *object;
		size_t at;

		json_array_foreach(opaque->objects, at, object)
		{
			const char *kind = json_string_value(json_object_get(object, "kind"));
			const char *name = json_string_value(json_object_get(object, "name"));

			if (name && kind && object_kind_from_name(kind) == OBJECT_DEVICE)
				g_ptr_array_add(names, object_spell(OBJECT_DEVICE, name));
		}
	}
	return names;
}

char *opaque_list_describe(const GPtrArray *list)
{
	size_t n = 0, descriptors = opaque_list_count(list);

	if (list->len == 0)
		return NULL;
	for (guint i = 0; i < list->len; i++)
		n += json_array_size(((const struct opaque *)g_ptr_array_index(list, i))->objects);
	return g_strdup_printf(
		"%zu object%s (%zu descriptor%s) of it cannot be used by this daemon, the "
		"first being %s; kept as %s, for a daemon that can, until the session is "
		"released",
		n, n == 1 ? "" : "s", descriptors, descriptors == 1 ? "" : "s",
		((const struct opaque *)g_ptr_array_index(list, 0))->reason,
		n == 1 ? "it is" : "they are");
}
