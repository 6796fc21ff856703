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

#define OBJECT_MAX_FDS 65536 /* of one object: what vfio-cprd takes */

static const char *const kind_names[] = {
	[ENTRY_CONTAINER] = "container", [ENTRY_GROUP] = "group",   [ENTRY_DEVICE] = "device",
	[ENTRY_IOMMUFD] = "iommufd",	 [ENTRY_MEMORY] = "memory", [ENTRY_EVENTFD] = "eventfd",
	[ENTRY_TABLE] = "table",	 [ENTRY_STATE] = "state",
};

const char *entry_kind_name(enum entry_kind kind)
{
	return kind_names[kind];
}

static int kind_from_name(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(kind_names); i++)
		if (strcmp(name, kind_names[i]) == 0)
			return (int)i;
	return -1;
}

/*
 * Entries
 */

struct entry *entry_new(enum entry_kind kind, const char *name)
{
	struct entry *entry = g_new0(struct entry, 1);

	entry->kind = kind;
	entry->name = g_strdup(name);
	entry->irq_index = entry->irq_action = -1;
	entry->devid = entry->ioas_id = entry->hwpt_id = -1;
	return entry;
}

void entry_free(struct entry *entry)
{
	if (!entry)
		return;
	for (uint32_t i = 0; i < entry->n_fds; i++)
		fd_close(&entry->fds[i]);
	g_free(entry->fds);
	g_free(entry->name);
	g_free(entry->space);
	g_free(entry->device);
	g_free(entry);
}

void entry_set_fd(struct entry *entry, uint32_t index, int fd)
{
	if (index >= entry->n_fds) {
		entry->fds = g_renew(int, entry->fds, index + 1);
		for (uint32_t i = entry->n_fds; i <= index; i++)
			entry->fds[i] = -1;
		entry->n_fds = index + 1;
	}
	entry->fds[index] = fd;
}

int entry_fd(const struct entry *entry, uint32_t index)
{
	return index < entry->n_fds ? entry->fds[index] : -1;
}

static guint entry_hash(gconstpointer key)
{
	const struct entry *entry = key;

	return g_str_hash(entry->name) * 31 + entry->kind;
}

static gboolean entry_equal(gconstpointer a, gconstpointer b)
{
	const struct entry *x = a, *y = b;

	return x->kind == y->kind && strcmp(x->name, y->name) == 0;
}

/*
 * The set of them
 */

void inventory_init(struct vfio_cpr *cpr)
{
	cpr->entries = g_ptr_array_new_with_free_func((GDestroyNotify)entry_free);
	cpr->by_name = g_hash_table_new(entry_hash, entry_equal);
	cpr->by_id = g_hash_table_new(NULL, NULL);
}

void inventory_clear(struct vfio_cpr *cpr)
{
	g_clear_pointer(&cpr->by_name, g_hash_table_unref);
	g_clear_pointer(&cpr->by_id, g_hash_table_unref);
	g_clear_pointer(&cpr->entries, g_ptr_array_unref);
}

struct entry *inventory_find(struct vfio_cpr *cpr, enum entry_kind kind, const char *name)
{
	struct entry key = {.kind = kind, .name = (char *)name};

	return g_hash_table_lookup(cpr->by_name, &key);
}

struct entry *inventory_find_id(struct vfio_cpr *cpr, uint32_t id)
{
	return g_hash_table_lookup(cpr->by_id, GUINT_TO_POINTER(id));
}

struct entry *inventory_group(struct vfio_cpr *cpr, const char *space)
{
	for (guint i = 0; i < cpr->entries->len; i++) {
		struct entry *entry = cpr->entries->pdata[i];

		if (entry->kind == ENTRY_GROUP && g_strcmp0(entry->space, space) == 0)
			return entry;
	}
	return NULL;
}

static void inventory_drop(struct vfio_cpr *cpr, struct entry *entry)
{
	g_hash_table_remove(cpr->by_name, entry);
	g_hash_table_remove(cpr->by_id, GUINT_TO_POINTER(entry->id));
	g_ptr_array_remove(cpr->entries, entry);
}

/* Takes over an entry: as it is, or its descriptors into the object's own. Returns the object's. */
static struct entry *inventory_merge(struct vfio_cpr *cpr, struct entry *entry)
{
	struct entry *old = inventory_find(cpr, entry->kind, entry->name);

	if (old && old->kind == ENTRY_STATE && old->id != entry->id) {
		inventory_drop(cpr, old);
		old = NULL;
	}
	if (old) {
		for (uint32_t i = entry->n_fds; i-- > 0;)
			if (entry->fds[i] >= 0 && entry_fd(old, i) < 0)
				entry_set_fd(old, i, fd_take(&entry->fds[i]));
		entry_free(entry);
		return old;
	}
	g_ptr_array_add(cpr->entries, entry);
	g_hash_table_add(cpr->by_name, entry);
	g_hash_table_insert(cpr->by_id, GUINT_TO_POINTER(entry->id), entry);
	cpr->last_id = MAX(cpr->last_id, entry->id);
	return entry;
}

/*
 * Store
 */

static void set_string(json_t *json, const char *key, const char *value)
{
	if (value)
		json_object_set_new(json, key, json_string(value));
}

static void set_number(json_t *json, const char *key, int64_t value)
{
	if (value >= 0)
		json_object_set_new(json, key, json_integer(value));
}

static json_t *entry_to_json(const struct entry *entry, uint32_t first, uint32_t count, size_t at)
{
	json_t *json = json_pack("{s:I, s:s, s:s, s:I, s:I, s:I}", "id", (json_int_t)entry->id,
				 "kind", entry_kind_name(entry->kind), "name", entry->name, "first",
				 (json_int_t)first, "count", (json_int_t)count,
				 "firstFileDescriptor", (json_int_t)at);

	set_string(json, "space", entry->space);
	set_string(json, "device", entry->device);
	set_number(json, "irqIndex", entry->irq_index);
	set_number(json, "irqAction", entry->irq_action);
	set_number(json, "devid", entry->devid);
	set_number(json, "ioasId", entry->ioas_id);
	set_number(json, "hwptId", entry->hwpt_id);
	return json;
}

struct store {
	struct entry **entries;
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

/* Adds the runs of an entry, sending a message whenever one is full. */
static int batch_add(struct batch *batch, const struct entry *entry)
{
	uint32_t i = 0;

	while (i < entry->n_fds) {
		size_t at = batch->n_fds;
		uint32_t first;

		if (entry->fds[i] < 0) {
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
		while (i < entry->n_fds && entry->fds[i] >= 0 && batch->n_fds < FRAME_MAX_FDS)
			batch->fds[batch->n_fds++] = entry->fds[i++];
		json_array_append_new(batch->objects, entry_to_json(entry, first, i - first, at));
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
		r = batch_add(&batch, store->entries[i]);
	if (r == 0)
		r = batch_send(&batch, false);
	json_decref(batch.objects);
	return r;
}

int inventory_store(struct vfio_cpr *cpr, struct entry **entries, size_t n)
{
	struct store store = {entries, n};
	char name[64];
	int r;

	for (size_t i = 0; i < n; i++) {
		struct entry *old = inventory_find(cpr, entries[i]->kind, entries[i]->name);

		entries[i]->id = old && old->kind != ENTRY_STATE ? old->id : ++cpr->last_id;
	}
	if (cpr->is_protected) {
		r = link_run(cpr, store_exchange, &store, NULL, name);
		if (r < 0) {
			/* Unanswered, it may have taken effect: look, once there is a daemon. */
			if (name[0] == '\0')
				cpr->doubt = true;
			return r;
		}
	}
	for (size_t i = 0; i < n; i++)
		entries[i] = inventory_merge(cpr, entries[i]);
	return 0;
}

int inventory_store_all(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			struct call_error *ret_error)
{
	struct store store = {(struct entry **)cpr->entries->pdata, cpr->entries->len};

	if (store.n == 0)
		return 0;
	return store_exchange(cpr, connection, timeout_msec, &store, ret_error);
}

/*
 * Fetch
 */

static int entry_from_json(json_t *json, struct fdlist *fds, struct entry **ret_entry)
{
	const char *kind_name = NULL, *name = NULL, *space = NULL, *device = NULL;
	json_int_t id = 0, first = 0, count = 1, at = -1, irq_index = -1, irq_action = -1;
	json_int_t devid = -1, ioas_id = -1, hwpt_id = -1;
	struct entry *entry;
	int kind;

	if (json_unpack(json, "{s:I, s:s, s:s, s?I, s?I, s:I, s?s, s?s, s?I, s?I, s?I, s?I, s?I}",
			"id", &id, "kind", &kind_name, "name", &name, "first", &first, "count",
			&count, "firstFileDescriptor", &at, "space", &space, "device", &device,
			"irqIndex", &irq_index, "irqAction", &irq_action, "devid", &devid, "ioasId",
			&ioas_id, "hwptId", &hwpt_id) < 0)
		return -EPROTO;
	kind = kind_from_name(kind_name);
	if (kind < 0 || id < 1 || id > UINT32_MAX || first < 0 || first >= OBJECT_MAX_FDS ||
	    count < 1 || first + count > OBJECT_MAX_FDS || at < 0 || (size_t)(at + count) > fds->n)
		return -EPROTO;

	entry = entry_new(kind, name);
	entry->id = id;
	entry->space = g_strdup(space);
	entry->device = g_strdup(device);
	entry->irq_index = irq_index;
	entry->irq_action = irq_action;
	entry->devid = devid;
	entry->ioas_id = ioas_id;
	entry->hwpt_id = hwpt_id;
	/* The last first, so that the array grows once. */
	for (json_int_t i = count - 1; i >= 0; i--)
		entry_set_fd(entry, first + i, fdlist_take(fds, at + i));
	*ret_entry = entry;
	return 0;
}

/* Appends the objects of one answer. */
static int entries_from_json(json_t *objects, struct fdlist *fds, GPtrArray *fetched)
{
	json_t *object;
	size_t i;

	json_array_foreach(objects, i, object)
	{
		struct entry *entry = NULL;
		int r = entry_from_json(object, fds, &entry);

		if (r < 0)
			return r;
		g_ptr_array_add(fetched, entry);
	}
	return 0;
}

/*
 * Fetches all into an array of entries (userdata), which is emptied first: it may be repeated. One
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
			r = entries_from_json(json_object_get(answer, "objects"), &fds, fetched);
		else if (r == 0)
			r = -ETIMEDOUT;
		json_decref(answer);
	}
	return r;
}

static void inventory_merge_all(struct vfio_cpr *cpr, GPtrArray *fetched, bool restored)
{
	for (guint i = 0; i < fetched->len; i++) {
		struct entry *entry = fetched->pdata[i];

		entry->restored = restored;
		fetched->pdata[i] = NULL;
		inventory_merge(cpr, entry);
	}
}

int inventory_fetch(struct vfio_cpr *cpr, bool restored)
{
	g_autoptr(GPtrArray) fetched = g_ptr_array_new_with_free_func((GDestroyNotify)entry_free);
	int r;

	r = link_run(cpr, fetch_exchange, fetched, NULL, NULL);
	if (r == 0)
		inventory_merge_all(cpr, fetched, restored);
	return r;
}

int inventory_adopt(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
		    struct call_error *ret_error)
{
	g_autoptr(GPtrArray) fetched = g_ptr_array_new_with_free_func((GDestroyNotify)entry_free);
	int r;

	r = fetch_exchange(cpr, connection, timeout_msec, fetched, ret_error);
	if (r == 0)
		inventory_merge_all(cpr, fetched, false);
	return r;
}

/*
 * Remove
 */

int inventory_remove(struct vfio_cpr *cpr, enum entry_kind kind, const char *name)
{
	struct entry *entry = inventory_find(cpr, kind, name);
	bool repeated = false;
	char error[64];
	int r;

	if (!entry)
		return cpr_fail(cpr, -ENOENT, "the session has no %s %s", entry_kind_name(kind),
				name);
	if (cpr->is_protected) {
		r = link_call(cpr, SESSION_METHOD("Remove"),
			      json_pack("{s:s, s:s}", "kind", entry_kind_name(kind), "name", name),
			      NULL, &repeated, error);
		/* The first try was answered by nobody, but had taken effect. */
		if (r < 0 && !(repeated && strcmp(error, "NoSuchObject") == 0))
			return r;
	}
	inventory_drop(cpr, entry);
	return 0;
}
