/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which copy of a session is the session: daemon/copies.h. */
#include "daemon/copies.h"

#include <poll.h>
#include <string.h>

#include "daemon/keep.h"
#include "daemon/kernel.h"
#include "daemon/log.h"
#include "daemon/opaque.h"

#define DEVICES_TOLD 4

struct copy *copy_read(struct journal *journal)
{
	struct copy *copy = g_new0(struct copy, 1);

	copy->journal = journal;
	copy->problem = record_replay(journal, &copy->replay);
	return copy;
}

void copy_free(struct copy *copy)
{
	replay_clear(&copy->replay);
	g_free(copy->problem);
	g_free(copy);
}

bool copy_is_whole(const struct copy *copy)
{
	return !copy->problem && copy->replay.complete;
}

static void add_device(GString *text, const char *name, unsigned int number)
{
	if (number < DEVICES_TOLD)
		g_string_append_printf(text, "%s%s", number == 0 ? ", with device " : ", ", name);
	else if (number == DEVICES_TOLD)
		g_string_append(text, " and more");
}

char *copy_describe(const struct copy *copy)
{
	const GPtrArray *objects = copy->replay.objects.objects;
	GString *text = g_string_new(NULL);
	unsigned int devices = 0;
	size_t held = opaque_list_count(copy->replay.opaque);

	for (guint i = 0; i < objects->len; i++)
		held += ((const struct object *)g_ptr_array_index(objects, i))->held;
	g_string_printf(text, "generation %" G_GUINT64_FORMAT ", %zu descriptor%s",
			copy->replay.generation, held, held == 1 ? "" : "s");
	for (guint i = 0; i < objects->len; i++) {
		const struct object *object = g_ptr_array_index(objects, i);

		if (object->kind == OBJECT_DEVICE)
			add_device(text, object->name, devices++);
	}
	return g_string_free(text, FALSE);
}

/* What may go */

static bool object_has(const struct object *object, int fd)
{
	for (guint i = 0; i < object->fds->len; i++) {
		int other = g_array_index(object->fds, int, i);

		/* Not identify_same(): where the kernel cannot tell, nothing is proven. */
		if (other >= 0 && kernel->same_file(other, fd) == 1)
			return true;
	}
	return false;
}

static bool set_has(const struct object_set *set, const struct object *object, guint at)
{
	int fd = g_array_index(object->fds, int, at);
	const struct object *of_name = object_set_find(set, object->kind, object->name);

	if (fd < 0)
		return true;
	if (of_name && at < of_name->fds->len && g_array_index(of_name->fds, int, at) >= 0 &&
	    kernel->same_file(g_array_index(of_name->fds, int, at), fd) == 1)
		return true;
	for (guint i = 0; i < set->objects->len; i++)
		if (object_has(g_ptr_array_index(set->objects, i), fd))
			return true;
	return false;
}

/* Whether every open file of the one is in the other too: dropping that closes nothing. */
static bool is_covered(const struct copy *copy, const struct copy *by)
{
	const GPtrArray *objects = copy->replay.objects.objects;

	if (copy->replay.opaque->len > 0)
		return false; /* it cannot be told what that is */
	for (guint i = 0; i < objects->len; i++) {
		const struct object *object = g_ptr_array_index(objects, i);

		for (guint at = 0; at < object->fds->len; at++)
			if (!set_has(&by->replay.objects, object, at))
				return false;
	}
	return true;
}

/* Why a copy may go because of another, to g_free(); NULL: it may not. */
typedef char *explain_drop(const struct copy *copy, const struct copy *because_of);

/*
 * It is the past of the other. A copy that was not finished never took effect: what was in it alone
 * had not been acknowledged to anybody.
 */
static char *explain_past(const struct copy *copy, const struct copy *present)
{
	const struct replay *old = &copy->replay, *new = &present->replay;
	const char *name = present->journal->name;

	if (!copy_is_whole(present))
		return NULL;
	if (g_strcmp0(new->replaces, copy->journal->name) == 0)
		return g_strdup_printf("journal %s was written to replace it", name);
	if (copy->problem || old->lineage == 0 || old->lineage != new->lineage)
		return NULL;
	if (!old->complete)
		return g_strdup_printf("it was never finished, and journal %s is whole", name);
	if (old->generation < new->generation)
		return g_strdup_printf(
			"journal %s is a later copy, of generation %" G_GUINT64_FORMAT, name,
			new->generation);
	return NULL;
}

/*
 * The other has all that it has, and is no older; which of two lineages is older, nobody can tell.
 * So go those of daemons that wrote no lineage, and one of two that are equal.
 */
static char *explain_double(const struct copy *copy, const struct copy *other)
{
	const struct replay *old = &copy->replay, *new = &other->replay;
	bool comparable = old->lineage == new->lineage || old->lineage == 0 || new->lineage == 0;

	if (copy->problem || !copy_is_whole(other) || !comparable ||
	    (old->complete && old->generation > new->generation) || !is_covered(copy, other))
		return NULL;
	return g_strdup_printf("all that it holds is in journal %s too", other->journal->name);
}

static char *explain_empty(const struct copy *copy)
{
	if (copy->problem || copy->replay.complete || copy->replay.objects.objects->len > 0 ||
	    copy->replay.opaque->len > 0)
		return NULL;
	return g_strdup("it was never finished, and holds nothing");
}

static void copy_drop(struct copy *copy, const char *reason)
{
	g_autofree char *description = copy_describe(copy);

	log_notice(NULL, "session %s of uid %u: journal %s (%s) is dropped: %s", copy->replay.name,
		   copy->replay.uid, copy->journal->name, description, reason);
	keep_drop(copy->journal);
	copy_free(copy);
}

static char *find_reason(const GPtrArray *copies, const struct copy *copy, explain_drop *explain)
{
	for (guint i = 0; i < copies->len; i++) {
		const struct copy *other = g_ptr_array_index(copies, i);
		char *reason = other == copy ? NULL : explain(copy, other);

		if (reason)
			return reason;
	}
	return explain_empty(copy);
}

/* One by one, so that of two that are equal one stays. */
static void drop_some(GPtrArray *copies, explain_drop *explain)
{
	for (guint i = 0; i < copies->len;) {
		struct copy *copy = g_ptr_array_index(copies, i);
		g_autofree char *reason = find_reason(copies, copy, explain);

		if (!reason) {
			i++;
			continue;
		}
		g_ptr_array_steal_index(copies, i);
		copy_drop(copy, reason);
	}
}

/* Which is the session */

static bool has_living_holder(const struct copy *copy)
{
	struct pollfd death = {.fd = copy->replay.holder.pidfd, .events = POLLIN};

	return death.fd >= 0 && poll(&death, 1, 0) == 0;
}

/* The better one first: whole, held by a living process, changed last. Never equal. */
static gint compare_copies(gconstpointer a, gconstpointer b)
{
	const struct copy *x = *(const struct copy *const *)a, *y = *(const struct copy *const *)b;
	bool whole = copy_is_whole(x), lives = has_living_holder(x);

	if (whole != copy_is_whole(y))
		return whole ? -1 : 1;
	if (lives != has_living_holder(y))
		return lives ? -1 : 1;
	if (x->replay.since != y->replay.since)
		return x->replay.since > y->replay.since ? -1 : 1;
	if (x->replay.generation != y->replay.generation)
		return x->replay.generation > y->replay.generation ? -1 : 1;
	return strcmp(x->journal->name, y->journal->name);
}

/* A later copy of its lineage that cannot be read, from which it must not part. */
static const struct copy *find_successor(const GPtrArray *copies, const struct copy *copy)
{
	for (guint i = 0; i < copies->len; i++) {
		const struct copy *other = g_ptr_array_index(copies, i);

		if (other->problem && other->replay.lineage != 0 &&
		    other->replay.lineage == copy->replay.lineage &&
		    other->replay.generation > copy->replay.generation)
			return other;
	}
	return NULL;
}

/* Why a copy that was read cannot be the session, whichever else there are; NULL: it can. */
static char *explain_unusable(const GPtrArray *copies, const struct copy *copy)
{
	g_autofree char *description = copy_describe(copy);
	const struct copy *successor = find_successor(copies, copy);

	if (!copy->replay.complete)
		return g_strdup_printf("it was never finished, and no other copy has what it holds "
				       "(%s): release it",
				       description);
	if (successor)
		return g_strdup_printf("journal %s is a later copy of it (%s), and cannot be read: "
				       "start a daemon that can, or release that one to use this",
				       successor->journal->name, description);
	return NULL;
}

static char *explain_unchosen(const struct copy *copy, const struct copy *chosen)
{
	g_autofree char *description = copy_describe(copy);

	return g_strdup_printf(
		"it is another copy of session %s (%s), with a history of its own; used "
		"is the one %s: release that one to use this in its place, or release "
		"this",
		copy->replay.name, description,
		has_living_holder(chosen) ? "whose holder lives" : "that was changed last");
}

void copies_judge(GPtrArray *copies)
{
	g_autoptr(GPtrArray) unusable = NULL;
	struct copy *first;

	drop_some(copies, explain_past);
	drop_some(copies, explain_double);
	unusable = g_ptr_array_new();
	for (guint i = 0; i < copies->len; i++) {
		struct copy *copy = g_ptr_array_index(copies, i);

		g_ptr_array_add(unusable, copy->problem ? NULL : explain_unusable(copies, copy));
	}
	for (guint i = 0; i < copies->len; i++) {
		struct copy *copy = g_ptr_array_index(copies, i);

		if (!copy->problem)
			copy->problem = g_ptr_array_index(unusable, i);
	}
	g_ptr_array_sort(copies, compare_copies);
	for (guint i = 1; i < copies->len; i++) {
		struct copy *copy = g_ptr_array_index(copies, i);

		first = g_ptr_array_index(copies, 0);
		if (!copy->problem)
			copy->problem = explain_unchosen(copy, first);
	}
}
