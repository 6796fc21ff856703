/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Held objects and sets of them; their JSON is in object-json.c. The contract: daemon/object.h. */
#include "daemon/object.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/account.h"
#include "daemon/identify.h"
#include "daemon/kernel.h"
#include "daemon/tally.h"
#include "daemon/worker.h"

#define FREED_AT_ONCE 256 /* objects: the memory of thousands takes a thread some milliseconds */

static uint64_t last_serial; /* of all sets: an object that moves to another has a new one there */

void object_take_all(struct object *object, struct fdlist *list)
{
	tally_end(g_steal_pointer(&object->tally));
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

static int compare_objects(gconstpointer a, gconstpointer b)
{
	const struct object *x = a, *y = b;

	return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->name, y->name);
}

static bool object_equal(const struct object *a, const struct object *b)
{
	return compare_objects(a, b) == 0;
}

static int compare_ids(gconstpointer a, gconstpointer b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

void object_set_init(struct object_set *set, struct account *account)
{
	*set = (struct object_set){
		.objects = g_ptr_array_new(),
		.tables = g_ptr_array_new(),
		.by_name = g_tree_new(compare_objects),
		.by_id = g_tree_new(compare_ids),
		.account = account,
	};
}

static void count(struct object_set *set, enum object_kind kind, ssize_t held, ssize_t gaps)
{
	set->held[kind] += held;
	set->gaps += gaps;
	if (set->account)
		account_count_held(set->account, held, gaps);
}

/* Counts the object, by 1 or -1 times. */
static void count_object(struct object_set *set, const struct object *object, int sign)
{
	ssize_t held = object->held, gaps = object->fds->len - object->held;

	count(set, object->kind, sign < 0 ? -held : held, sign < 0 ? -gaps : gaps);
}

static void uncount(struct object_set *set)
{
	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		count(set, kind, -(ssize_t)set->held[kind], 0);
	count(set, 0, 0, -(ssize_t)set->gaps);
}

static void free_memory(struct object_set *set)
{
	g_ptr_array_unref(set->objects);
	g_ptr_array_unref(set->tables);
	g_tree_unref(set->by_name);
	g_tree_unref(set->by_id);
	*set = (struct object_set){0};
}

/* Ends a set whose objects are gone, or another's. */
static void object_set_free(struct object_set *set)
{
	uncount(set);
	free_memory(set);
}

/* Of objects that are another set's by now, it may have the names yet. */
static bool is_large(const struct object_set *set)
{
	return g_tree_nnodes(set->by_name) > FREED_AT_ONCE;
}

/* What is left of a set: objects that have nothing any more, and how they were found. */
static void free_remains(void *data)
{
	struct object_set *set = data;

	for (guint i = 0; i < set->objects->len; i++)
		object_free(g_ptr_array_index(set->objects, i));
	free_memory(set);
	g_free(set);
}

void object_set_take_all(struct object_set *set, struct fdlist *list)
{
	struct object_set *remains;

	for (guint i = 0; i < set->objects->len; i++)
		object_take_all(g_ptr_array_index(set->objects, i), list);
	remains = object_set_steal(set);
	if (is_large(remains))
		worker_run(free_remains, NULL, remains);
	else
		free_remains(remains);
}

struct object_set *object_set_steal(struct object_set *set)
{
	struct object_set *stolen;

	for (guint i = 0; i < set->tables->len; i++)
		tally_end(g_steal_pointer(
			&((struct object *)g_ptr_array_index(set->tables, i))->tally));
	uncount(set);
	stolen = g_memdup2(set, sizeof(*set));
	object_set_init(set, stolen->account);
	stolen->account = NULL;
	return stolen;
}

void object_set_close(struct object_set *stolen)
{
	for (guint i = 0; i < stolen->objects->len; i++) {
		struct object *object = g_ptr_array_index(stolen->objects, i);

		for (guint at = 0; at < object->fds->len; at++) {
			int *fd = &g_array_index(object->fds, int, at);

			if (*fd >= 0)
				kernel->close(*fd);
			*fd = -1;
		}
	}
	free_remains(stolen);
}

static void close_stolen(void *stolen)
{
	object_set_close(stolen);
}

void object_set_clear(struct object_set *set)
{
	struct object_set *stolen;

	if (!set->objects)
		return;
	stolen = object_set_steal(set);
	free_memory(set);
	if (stolen->objects->len > 0 || is_large(stolen))
		worker_close_by(close_stolen, stolen);
	else
		free_remains(stolen);
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

	return g_tree_lookup(set->by_name, &key);
}

struct object *object_set_find_id(const struct object_set *set, int64_t id)
{
	return g_tree_lookup(set->by_id, &id);
}

guint object_set_index(const struct object_set *set, uint64_t serial)
{
	guint low = 0, high = set->objects->len;

	while (low < high) {
		guint middle = low + (high - low) / 2;
		const struct object *object = g_ptr_array_index(set->objects, middle);

		if (object->serial < serial)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

size_t object_set_total(const struct object_set *set)
{
	size_t total = 0;

	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		total += set->held[kind];
	return total;
}

size_t object_set_slots(const struct object_set *set)
{
	return object_set_total(set) + set->gaps;
}

/* The descriptor of that number; -1: it has none. */
static int slot(const struct object *object, size_t number)
{
	return number < object->fds->len ? g_array_index(object->fds, int, number) : -1;
}

/* Why the names are in the way, to g_free(); NULL: *ret_held has it already, or nobody has. */
static char *conflict_of_names(const struct object_set *set, const struct object *object,
			       const struct object **ret_held)
{
	const struct object *held = object_set_find(set, object->kind, object->name);

	*ret_held = NULL;
	if (!held || held->kind == OBJECT_STATE) {
		held = object_set_find_id(set, object->id);
		if (!held || object_equal(held, object))
			return NULL;
		return g_strdup_printf("id %" PRId64 " is that of %s %s: choose another for %s %s",
				       object->id, object_kind_name(held->kind), held->name,
				       object_kind_name(object->kind), object->name);
	}
	*ret_held = held;
	if (held->id != object->id)
		return g_strdup_printf("%s %s is held with id %" PRId64 ", not %" PRId64
				       ": remove it first, or keep its id",
				       object_kind_name(held->kind), held->name, held->id,
				       object->id);
	return NULL;
}

char *object_set_conflict_part(const struct object_set *set, const struct object *object,
			       size_t *number, size_t *left)
{
	const struct object *held;
	char *conflict = conflict_of_names(set, object, &held);

	if (!held || conflict) {
		*number = object->fds->len;
		return conflict;
	}
	for (; *number<object->fds->len && * left> 0; ++*number) {
		size_t place = object->first + *number;
		int given = g_array_index(object->fds, int, *number);
		int there = slot(held, place);

		if (given < 0 || there < 0)
			continue;
		if (!identify_same(given, there))
			return g_strdup_printf(
				"%s %s is held already, as another open file (number %zu of "
				"it): remove it first, or choose another name",
				object_kind_name(held->kind), held->name, place);
		--*left;
	}
	return NULL;
}

char *object_set_conflict(const struct object_set *set, const struct object *object)
{
	size_t number = 0, left = SIZE_MAX;

	return object_set_conflict_part(set, object, &number, &left);
}

/* Has it `len` slots or more. */
static void grow(struct object *object, size_t len)
{
	size_t had = object->fds->len;

	if (len <= had)
		return;
	g_array_set_size(object->fds, len);
	memset(&g_array_index(object->fds, int, had), -1, (len - had) * sizeof(int));
}

/* Puts the descriptors that `to` has no slot for yet into it. */
static void object_merge(struct object *to, struct object *from)
{
	grow(to, from->first + from->fds->len);
	for (guint i = 0; i < from->fds->len; i++) {
		int *given = &g_array_index(from->fds, int, i);
		int *place = &g_array_index(to->fds, int, from->first + i);

		if (*given < 0 || *place >= 0)
			continue;
		*place = *given;
		*given = -1;
		to->held++;
	}
}

void object_fill_up(struct object *object)
{
	size_t len = object->fds->len;

	if (object->first == 0)
		return;
	grow(object, object->first + len);
	memmove(&g_array_index(object->fds, int, object->first), object->fds->data,
		len * sizeof(int));
	memset(object->fds->data, -1, object->first * sizeof(int));
	object->first = 0;
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
		count_object(set, held, -1);
		object_merge(held, object);
		count_object(set, held, 1);
		object_free(object);
		return;
	}
	object_fill_up(object);
	object->serial = ++last_serial;
	if (object->kind == OBJECT_TABLE) {
		if (!object->tally)
			object->tally = tally_new(g_array_index(object->fds, int, 0));
		g_ptr_array_add(set->tables, object);
	}
	g_ptr_array_add(set->objects, object);
	g_tree_insert(set->by_name, object, object);
	g_tree_insert(set->by_id, &object->id, object);
	count_object(set, object, 1);
}

/* The sets change places; what is in the first is stored now. */
static void exchange(struct object_set *to, struct object_set *from)
{
	struct object_set empty = *to;

	*to = *from;
	*from = empty;
	for (guint i = 0; i < to->objects->len; i++)
		((struct object *)g_ptr_array_index(to->objects, i))->serial = ++last_serial;
}

void object_set_move(struct object_set *to, struct object_set *from)
{
	g_autoptr(GPtrArray) objects = g_ptr_array_ref(from->objects);
	struct account *account = from->account;

	/* Thousands of objects take milliseconds to add; the first batch is mostly the largest. */
	if (to->objects->len == 0 && to->account == account) {
		exchange(to, from);
		return;
	}
	object_set_free(from);
	object_set_init(from, account);
	for (guint i = 0; i < objects->len; i++)
		object_set_add(to, g_ptr_array_index(objects, i));
}

void object_set_remove(struct object_set *set, struct object *object)
{
	g_tree_remove(set->by_name, object);
	g_tree_remove(set->by_id, &object->id);
	g_ptr_array_remove(set->objects, object);
	g_ptr_array_remove(set->tables, object);
	count_object(set, object, -1);
}

/* Moves to fds what the object of that name has already. */
static void take_held(struct object *object, const struct object *held, struct fdlist *fds)
{
	/* A state takes the place of the last, unless it is the very same. */
	if (object->kind == OBJECT_STATE &&
	    (object->id != held->id || !identify_same(slot(object, 0), slot(held, 0))))
		return;
	for (guint i = 0; i < object->fds->len; i++) {
		int *fd = &g_array_index(object->fds, int, i);

		if (*fd < 0 || slot(held, i) < 0)
			continue;
		fdlist_append(fds, fd, 1);
		*fd = -1;
		object->held--;
	}
}

void object_set_add_missing(struct object_set *set, struct object *object,
			    const struct object_set *held)
{
	auto_fdlist fds = {.close_all = worker_close_all};
	const struct object *there = object_set_find(held, object->kind, object->name);

	if (there)
		take_held(object, there, &fds);
	if (object->held > 0)
		object_set_add(set, object);
	else
		object_free(object);
}

void object_set_forget(struct object_set *set, guint n)
{
	if (n == 0)
		return;
	g_ptr_array_remove_range(set->objects, 0, n);
	g_ptr_array_set_size(set->tables, 0);
	for (guint i = 0; i < set->objects->len; i++) {
		struct object *object = g_ptr_array_index(set->objects, i);

		if (object->kind == OBJECT_TABLE)
			g_ptr_array_add(set->tables, object);
	}
}
