/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Held objects and sets of them; their JSON is in object-json.c. The contract: daemon/object.h. */
#include "daemon/object.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/account.h"
#include "daemon/identify.h"
#include "daemon/worker.h"

void object_take_all(struct object *object, struct fdlist *list)
{
	for (guint i = 0; i < object->fds->len; i++) {
		int *fd = &g_array_index(object->fds, int, i);

		if (*fd >= 0)
			fdlist_append(list, fd, 1);
		*fd = -1;
	}
	object->held = 0;
}

void object_free(struct object *object)
{
	auto_fdlist fds = {.close_all = worker_close_all};

	if (!object)
		return;
	object_take_all(object, &fds);
	g_array_unref(object->fds);
	object_attributes_clear(&object->attributes);
	g_free(object->name);
	g_free(object);
}

size_t object_run(const struct object *object, size_t first)
{
	size_t i = first;

	while (i < object->fds->len && g_array_index(object->fds, int, i) >= 0)
		i++;
	return i - first;
}

static guint object_hash(gconstpointer key)
{
	const struct object *object = key;

	return g_str_hash(object->name) * OBJECT_KINDS + object->kind;
}

static gboolean object_equal(gconstpointer a, gconstpointer b)
{
	const struct object *x = a, *y = b;

	return x->kind == y->kind && strcmp(x->name, y->name) == 0;
}

void object_set_init(struct object_set *set, struct account *account)
{
	*set = (struct object_set){
		.account = account,
		.objects = g_ptr_array_new(),
		.by_name = g_hash_table_new(object_hash, object_equal),
		.by_id = g_hash_table_new(g_int64_hash, g_int64_equal),
	};
}

static void count(struct object_set *set, enum object_kind kind, ssize_t change)
{
	set->slots[kind] += change;
	if (set->account)
		account_count_descriptors(set->account, change);
}

/* Ends a set whose objects are gone, or another's. */
static void object_set_free(struct object_set *set)
{
	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		count(set, kind, -(ssize_t)set->slots[kind]);
	g_ptr_array_unref(set->objects);
	g_hash_table_unref(set->by_name);
	g_hash_table_unref(set->by_id);
	*set = (struct object_set){0};
}

void object_set_take_all(struct object_set *set, struct fdlist *list)
{
	struct account *account;

	for (guint i = 0; i < set->objects->len; i++) {
		struct object *object = g_ptr_array_index(set->objects, i);

		object_take_all(object, list);
		object_free(object);
	}
	account = set->account;
	object_set_free(set);
	object_set_init(set, account);
}

void object_set_clear(struct object_set *set)
{
	auto_fdlist fds = {.close_all = worker_close_all};

	if (!set->objects)
		return;
	object_set_take_all(set, &fds);
	object_set_free(set);
}

char *object_spell(enum object_kind kind, const char *name)
{
	bool is_address = kind == OBJECT_DEVICE && strchr(name, ':') &&
			  strspn(name, "0123456789abcdefABCDEF:.") == strlen(name);

	return is_address ? g_ascii_strdown(name, -1) : g_strdup(name);
}

struct object *object_set_find(const struct object_set *set, enum object_kind kind,
			       const char *name)
{
	const struct object key = {.kind = kind, .name = (char *)name};

	return g_hash_table_lookup(set->by_name, &key);
}

struct object *object_set_find_id(const struct object_set *set, int64_t id)
{
	return g_hash_table_lookup(set->by_id, &id);
}

size_t object_set_total(const struct object_set *set)
{
	size_t total = 0;

	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		total += set->slots[kind];
	return total;
}

char *object_set_conflict(const struct object_set *set, const struct object *object)
{
	const struct object *held = object_set_find(set, object->kind, object->name);

	if (!held || held->kind == OBJECT_STATE) {
		held = object_set_find_id(set, object->id);
		if (!held || object_equal(held, object))
			return NULL;
		return g_strdup_printf("id %" PRId64 " is that of %s %s: choose another for %s %s",
				       object->id, object_kind_name(held->kind), held->name,
				       object_kind_name(object->kind), object->name);
	}
	if (held->id != object->id)
		return g_strdup_printf("%s %s is held with id %" PRId64 ", not %" PRId64
				       ": remove it first, or keep its id",
				       object_kind_name(held->kind), held->name, held->id,
				       object->id);
	for (guint i = 0; i < object->fds->len && i < held->fds->len; i++) {
		int given = g_array_index(object->fds, int, i);
		int there = g_array_index(held->fds, int, i);

		if (given >= 0 && there >= 0 && !identify_same(given, there))
			return g_strdup_printf(
				"%s %s is held already, as another open file (number %u of "
				"it): remove it first, or choose another name",
				object_kind_name(held->kind), held->name, i);
	}
	return NULL;
}

/* Puts the descriptors that `to` has no slot for yet into it. */
static void object_merge(struct object *to, struct object *from)
{
	static const int gap = -1;

	while (to->fds->len < from->fds->len)
		g_array_append_val(to->fds, gap);
	for (guint i = 0; i < from->fds->len; i++) {
		int *given = &g_array_index(from->fds, int, i);
		int *slot = &g_array_index(to->fds, int, i);

		if (*given < 0 || *slot >= 0)
			continue;
		*slot = *given;
		*given = -1;
		to->held++;
	}
}

bool object_set_takes(const struct object_set *set, const struct object *object)
{
	const struct object *of_name = object_set_find(set, object->kind, object->name);
	const struct object *of_id = object_set_find_id(set, object->id);

	return (!of_name || of_name->id == object->id || object->kind == OBJECT_STATE) &&
	       (!of_id || object_equal(of_id, object));
}

void object_set_add(struct object_set *set, struct object *object)
{
	struct object *held = object_set_find(set, object->kind, object->name);

	g_assert(object_set_takes(set, object));
	if (held && object->kind == OBJECT_STATE) {
		object_set_remove(set, held);
		object_free(held);
		held = NULL;
	}
	if (held) {
		count(set, held->kind, -(ssize_t)held->fds->len);
		object_merge(held, object);
		count(set, held->kind, held->fds->len);
		object_free(object);
		return;
	}
	g_ptr_array_add(set->objects, object);
	g_hash_table_add(set->by_name, object);
	g_hash_table_insert(set->by_id, &object->id, object);
	count(set, object->kind, object->fds->len);
}

void object_set_move(struct object_set *to, struct object_set *from)
{
	g_autoptr(GPtrArray) objects = g_ptr_array_ref(from->objects);
	struct account *account = from->account;

	object_set_free(from);
	object_set_init(from, account);
	for (guint i = 0; i < objects->len; i++)
		object_set_add(to, g_ptr_array_index(objects, i));
}

void object_set_remove(struct object_set *set, struct object *object)
{
	g_hash_table_remove(set->by_name, object);
	g_hash_table_remove(set->by_id, &object->id);
	g_ptr_array_remove(set->objects, object);
	count(set, object->kind, -(ssize_t)object->fds->len);
}
