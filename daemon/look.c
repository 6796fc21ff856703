/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A look at what a message brought: daemon/look.h. */
#include "daemon/look.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "common/fdlist.h"
#include "common/table.h"
#include "daemon/account.h"
#include "daemon/errand.h"
#include "daemon/identify.h"
#include "daemon/kernel.h"
#include "daemon/object.h"
#include "daemon/unwanted.h"

struct look {
	struct account *account;
	GPtrArray *objects; /* owned; NULL: taken */
	GPtrArray *unknown; /* of them, those that an errand has to look at */
	guint taken;
	char *refusal;
	bool under_way; /* the thread has the objects */
	bool dropped;	/* nobody waits for it */
	void (*done)(void *data);
	void *data;
};

struct look *look_new(struct account *account)
{
	struct look *look = g_new0(struct look, 1);

	account->references++;
	look->account = account;
	look->objects = g_ptr_array_new();
	look->unknown = g_ptr_array_new();
	return look;
}

static bool is_known(const struct object *object)
{
	if (object->kind != OBJECT_EVENTFD)
		return false;
	for (guint i = 0; i < object->fds->len; i++) {
		int fd = g_array_index(object->fds, int, i);

		if (fd >= 0 && !identify_eventfd(fd))
			return false;
	}
	return true;
}

void look_add(struct look *look, struct object *object)
{
	account_count_descriptors(look->account, object->held);
	g_ptr_array_add(look->objects, object);
	if (!is_known(object))
		g_ptr_array_add(look->unknown, object);
}

struct object *look_take(struct look *look)
{
	struct object *object;

	g_assert(!look->under_way);
	if (look->taken == look->objects->len)
		return NULL;
	object = g_ptr_array_index(look->objects, look->taken++);
	account_count_descriptors(look->account, -(ssize_t)object->held);
	return object;
}

const char *look_refusal(const struct look *look)
{
	return look->refusal;
}

/* In a thread */

static char *check_kind(const struct object *object)
{
	char *refusal = NULL;

	for (guint i = 0; i < object->fds->len && !refusal; i++) {
		int fd = g_array_index(object->fds, int, i);

		if (fd >= 0)
			refusal = identify_refusal(fd, object->kind, object->name);
	}
	return refusal;
}

static int note_size(struct object *object)
{
	struct stat st;

	if (fstat(g_array_index(object->fds, int, 0), &st) < 0)
		return -errno;
	object->size = st.st_size;
	return 0;
}

static char *check_file(struct object *object)
{
	int r = note_size(object);
	uint32_t slots;

	if (r < 0)
		return g_strdup_printf("cannot stat %s %s: %s", object_kind_name(object->kind),
				       object->name, g_strerror(-r));
	if (object->kind == OBJECT_STATE && object->size > STATE_MAX_BYTES)
		return g_strdup_printf("state %s has %" PRIu64
				       " bytes, over %d: keep it in memory of "
				       "the session",
				       object->name, object->size, STATE_MAX_BYTES);
	if (object->kind == OBJECT_TABLE &&
	    table_check(g_array_index(object->fds, int, 0), &slots) < 0)
		return g_strdup_printf("table %s is no mapping table of version %d, sealed against "
				       "shrinking and growing: use one made by libvfio-cpr",
				       object->name, TABLE_VERSION);
	return NULL;
}

static void look_in_thread(void *data)
{
	struct look *look = data;

	for (guint i = 0; i < look->unknown->len && !look->refusal; i++) {
		struct object *object = g_ptr_array_index(look->unknown, i);

		look->refusal = check_kind(object);
		if (!look->refusal && object_has_size(object))
			look->refusal = check_file(object);
	}
}

/* In the loop */

/* Refused, or not looked at to the end: its close may hang as well. */
static void close_rest(struct look *look)
{
	auto_fdlist fds = FDLIST_INIT;
	struct object *object;

	while ((object = look_take(look))) {
		object_take_all(object, &fds);
		object_free(object);
	}
	if (fds.n > 0)
		unwanted_close(look->account, fds.fds, fds.n);
	fds.n = 0;
}

static void look_free(struct look *look)
{
	close_rest(look);
	g_ptr_array_unref(look->objects);
	g_ptr_array_unref(look->unknown);
	account_put(look->account);
	g_free(look->refusal);
	g_free(look);
}

static void on_looked(void *data)
{
	struct look *look = data;
	void (*done)(void *data) = look->done;
	void *argument = look->data;

	look->under_way = false;
	if (look->dropped) {
		look->account->closing--;
		look_free(look);
	}
	done(argument);
}

bool look_begin(struct look *look, void (*done)(void *data), void *data)
{
	if (look->unknown->len == 0)
		return true;
	look->under_way = true;
	look->done = done;
	look->data = data;
	errand_run(look->account, look_in_thread, on_looked, look);
	return false;
}

void look_drop(struct look *look)
{
	if (!look)
		return;
	if (!look->under_way) {
		look_free(look);
		return;
	}
	look->dropped = true;
	look->account->closing++;
}
