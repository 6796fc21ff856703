/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The objects of the session, as the daemon has them. What the daemon has acknowledged is in here
 * and the other way round, so "get or open" is a look-up, and a daemon that lost everything can be
 * given it anew. A message carries at most 253 descriptors: a longer object goes in several, which
 * take effect with the last.
 */
#include "client/inventory.h"

#include <errno.h>
#include <string.h>

#include "client/cpr.h"
#include "common/fd.h"
#include "common/fdlist.h"
#include "common/frame.h"

/*
 * One object
 */

struct object *object_new(enum object_kind kind, const char *name)
{
	struct object *object = g_new0(struct object, 1);

	object->kind = kind;
	object->name = g_strdup(name);
	object->attributes = OBJECT_ATTRIBUTES_NONE;
	return object;
}

void object_free(struct object *object)
{
	if (!object)
		return;
	for (uint32_t i = 0; i < object->n_fds; i++)
		fd_close(&object->fds[i]);
	g_free(object->fds);
	g_free(object->name);
	object_attributes_clear(&object->attributes);
	g_free(object);
}

void object_set_fd(struct object *object, uint32_t index, int fd)
{
	if (index >= object->n_fds) {
		object->fds = g_renew(int, object->fds, index + 1);
		for (uint32_t i = object->n_fds; i <= index; i++)
			object->fds[i] = -1;
		object->n_fds = index + 1;
	}
	g_assert(object->fds);
	object->fds[index] = fd;
}

int object_fd(const struct object *object, uint32_t index)
{
	return index < object->n_fds ? object->fds[index] : -1;
}

static guint object_hash(gconstpointer key)
{
	const struct object *object = key;

	return g_str_hash(object->name) * 31 + object->kind;
}

static gboolean object_equal(gconstpointer a, gconstpointer b)
{
	const struct object *x = a, *y = b;

	return x->kind == y->kind && strcmp(x->name, y->name) == 0;
}

/*
 * The set of them
 */

void inventory_init(struct vfio_cpr *cpr)
{
	cpr->objects = g_ptr_array_new_with_free_func((GDestroyNotify)object_free);
	cpr->by_name = g_hash_table_new(object_hash, object_equal);
	cpr->by_id = g_hash_table_new(NULL, NULL);
}

void inventory_clear(struct vfio_cpr *cpr)
{
	g_clear_pointer(&cpr->by_name, g_hash_table_unref);
	g_clear_pointer(&cpr->by_id, g_hash_table_unref);
	g_clear_pointer(&cpr->objects, g_ptr_array_unref);
}

struct object *inventory_find(struct vfio_cpr *cpr, enum object_kind kind, const char *name)
{
	struct object key = {.kind = kind, .name = (char *)name};

	return g_hash_table_lookup(cpr->by_name, &key);
}

struct object *inventory_find_id(struct vfio_cpr *cpr, uint32_t id)
{
	return g_hash_table_lookup(cpr->by_id, GUINT_TO_POINTER(id));
}

struct object *inventory_group(struct vfio_cpr *cpr, const char *space)
{
	for (guint i = 0; i < cpr->objects->len; i++) {
		struct object *object = cpr->objects->pdata[i];

		if (object->kind == OBJECT_GROUP && g_strcmp0(object->attributes.space, space) == 0)
			return object;
	}
	return NULL;
}

static void inventory_drop(struct vfio_cpr *cpr, struct object *object)
{
	g_hash_table_remove(cpr->by_name, object);
	g_hash_table_remove(cpr->by_id, GUINT_TO_POINTER(object->id));
	g_ptr_array_remove(cpr->objects, object);
}

/*
 * Takes over an object. If there is one of that kind and name, it gets the descriptors. Returns the
 * object that is in the inventory now.
 */
static struct object *inventory_merge(struct vfio_cpr *cpr, struct object *object)
{
	struct object *old = inventory_find(cpr, object->kind, object->name);

	if (old && old->kind == OBJECT_STATE && old->id != object->id) {
		inventory_drop(cpr, old);
		old = NULL;
	}
	if (old) {
		for (uint32_t i = object->n_fds; i-- > 0;)
			if (object->fds[i] >= 0 && object_fd(old, i) < 0)
				object_set_fd(old, i, fd_take(&object->fds[i]));
		object_free(object);
		return old;
	}
	g_ptr_array_add(cpr->objects, object);
	g_hash_table_add(cpr->by_name, object);
	g_hash_table_insert(cpr->by_id, GUINT_TO_POINTER(object->id), object);
	cpr->last_id = MAX(cpr->last_id, object->id);
	return object;
}

/*
 * Store
 */

static json_t *object_to_json(const struct object *object, uint32_t first, uint32_t count,
			      size_t at)
{
	const struct object_description description = {
		.id = object->id,
		.kind = object->kind,
		.name = object->name,
		.first = first,
		.count = count,
		.first_descriptor = at,
		.size = -1,
		.attributes = object->attributes,
	};

	return object_description_to_json(&description);
}

struct store {
	struct object **objects;
	size_t n;
};

/* A message in the making. */
struct batch {
	struct connection *connection;
	int timeout_msec;
	struct call_error *error;
	json_t *objects;
	int fds[FRAME_MAX_FDS];
	size_t n_fds;
};

static int batch_send(struct batch *batch, bool continues)
{
	json_t *parameters = json_pack("{s:o}", "objects", batch->objects);
	size_t n_fds = batch->n_fds;

	batch->objects = json_array();
	batch->n_fds = 0;
	if (continues)
		json_object_set_new(parameters, "continues", json_true());
	return connection_call(batch->connection, SESSION_METHOD("Store"), parameters, batch->fds,
			       n_fds, batch->timeout_msec, NULL, NULL, batch->error);
}

/* Adds the runs of an object, sending a message whenever one is full. */
static int batch_add(struct batch *batch, const struct object *object)
{
	uint32_t i = 0;

	while (i < object->n_fds) {
		size_t at = batch->n_fds;
		uint32_t first;

		if (object->fds[i] < 0) {
			i++;
			continue;
		}
		if (at == FRAME_MAX_FDS) {
			int r = batch_send(batch, true);

			if (r < 0)
				return r;
			at = 0;
		}
		first = i;
		while (i < object->n_fds && object->fds[i] >= 0 && batch->n_fds < FRAME_MAX_FDS)
			batch->fds[batch->n_fds++] = object->fds[i++];
		json_array_append_new(batch->objects, object_to_json(object, first, i - first, at));
	}
	return 0;
}

static int store_exchange(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			  void *userdata, struct call_error *ret_error)
{
	const struct store *store = userdata;
	struct batch batch = {
		.connection = connection,
		.timeout_msec = timeout_msec,
		.error = ret_error,
		.objects = json_array(),
	};
	int r = 0;

	(void)cpr;
	for (size_t i = 0; i < store->n && r == 0; i++)
		r = batch_add(&batch, store->objects[i]);
	if (r == 0)
		r = batch_send(&batch, false);
	json_decref(batch.objects);
	return r;
}

int inventory_store(struct vfio_cpr *cpr, struct object **objects, size_t n)
{
	struct store store = {objects, n};
	char name[64];
	int r;

	for (size_t i = 0; i < n; i++) {
		struct object *old = inventory_find(cpr, objects[i]->kind, objects[i]->name);

		objects[i]->id = old && old->kind != OBJECT_STATE ? old->id : ++cpr->last_id;
	}
	if (cpr->is_protected) {
		r = link_run(cpr, store_exchange, &store, NULL, name);
		if (r < 0) {
			/* Without an answer it may have taken effect: the next daemon is asked. */
			if (name[0] == '\0')
				cpr->doubt = true;
			return r;
		}
	}
	for (size_t i = 0; i < n; i++)
		objects[i] = inventory_merge(cpr, objects[i]);
	return 0;
}

int inventory_store_all(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			struct call_error *ret_error)
{
	struct store store = {(struct object **)cpr->objects->pdata, cpr->objects->len};

	if (store.n == 0)
		return 0;
	return store_exchange(cpr, connection, timeout_msec, &store, ret_error);
}

/*
 * Fetch
 */

static int object_from_json(json_t *json, struct fdlist *fds, struct object **ret_object)
{
	struct object_description description = {0};
	g_autofree char *problem = NULL;
	const char *parameter;
	struct object *object;

	/* Not strict, since a newer daemon may send fields that this library does not know. */
	problem = object_description_parse(json, false, fds->n, &description, &parameter);
	if (problem)
		return -EPROTO;
	object = object_new(description.kind, description.name);
	object->id = description.id;
	object->attributes = object_attributes_copy(&description.attributes);
	/* From the last on, so that the array grows only once. */
	for (int64_t i = description.count - 1; i >= 0; i--)
		object_set_fd(object, description.first + i,
			      fdlist_take(fds, description.first_descriptor + i));
	*ret_object = object;
	return 0;
}

/* Appends the objects of one answer. */
static int objects_from_json(json_t *descriptions, struct fdlist *fds, GPtrArray *fetched)
{
	json_t *description;
	size_t i;

	json_array_foreach(descriptions, i, description)
	{
		struct object *object = NULL;
		int r = object_from_json(description, fds, &object);

		if (r < 0)
			return r;
		g_ptr_array_add(fetched, object);
	}
	return 0;
}

/*
 * Fetches all into an array of objects (userdata), which is emptied first: it may be repeated. One
 * request, and as many answers as it takes.
 */
static int fetch_exchange(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			  void *userdata, struct call_error *ret_error)
{
	GPtrArray *fetched = userdata;
	bool continues = true;
	int r;

	(void)cpr;
	g_ptr_array_set_size(fetched, 0);
	r = connection_call_more(connection, SESSION_METHOD("Fetch"),
				 json_pack("{s:i}", "cursor", 0));
	while (r >= 0 && continues) {
		auto_fdlist fds = FDLIST_INIT;
		json_t *answer = NULL;

		r = connection_next(connection, timeout_msec, &answer, &fds, &continues, ret_error);
		if (r > 0)
			r = objects_from_json(json_object_get(answer, "objects"), &fds, fetched);
		else if (r == 0)
			r = -ETIMEDOUT;
		json_decref(answer);
	}
	return r;
}

static void inventory_merge_all(struct vfio_cpr *cpr, GPtrArray *fetched, bool restored)
{
	for (guint i = 0; i < fetched->len; i++) {
		struct object *object = fetched->pdata[i];

		object->restored = restored;
		fetched->pdata[i] = NULL;
		inventory_merge(cpr, object);
	}
}

int inventory_fetch(struct vfio_cpr *cpr, bool restored)
{
	g_autoptr(GPtrArray) fetched = g_ptr_array_new_with_free_func((GDestroyNotify)object_free);
	int r;

	r = link_run(cpr, fetch_exchange, fetched, NULL, NULL);
	if (r == 0)
		inventory_merge_all(cpr, fetched, restored);
	return r;
}

int inventory_adopt(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
		    struct call_error *ret_error)
{
	g_autoptr(GPtrArray) fetched = g_ptr_array_new_with_free_func((GDestroyNotify)object_free);
	int r;

	r = fetch_exchange(cpr, connection, timeout_msec, fetched, ret_error);
	if (r == 0)
		inventory_merge_all(cpr, fetched, false);
	return r;
}

/*
 * Remove
 */

int inventory_remove(struct vfio_cpr *cpr, enum object_kind kind, const char *name)
{
	struct object *object = inventory_find(cpr, kind, name);
	bool repeated = false;
	char error[64];
	int r;

	if (!object)
		return cpr_fail(cpr, -ENOENT, "the session has no %s %s", object_kind_name(kind),
				name);
	if (cpr->is_protected) {
		r = link_call(cpr, SESSION_METHOD("Remove"),
			      json_pack("{s:s, s:s}", "kind", object_kind_name(kind), "name", name),
			      NULL, &repeated, error);
		/* NoSuchObject after a repeat: the first try removed it, its answer was lost. */
		if (r < 0 && !(repeated && strcmp(error, "NoSuchObject") == 0))
			return r;
	}
	inventory_drop(cpr, object);
	return 0;
}
