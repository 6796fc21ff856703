/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session as records: daemon/record.h. */
#include "daemon/record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/opaque.h"

#define OBJECTS_OF_RECORD 64 /* some 0.2 ms to put into words: the loop does no more in a turn */

static int write_record(struct journal *journal, json_t *record, const int *fds, size_t n_fds)
{
	int r = journal_write(journal, record, fds, n_fds);

	json_decref(record);
	return r;
}

static int record_open(struct journal *journal, const struct session *session)
{
	g_autofree char *lineage = g_strdup_printf("%016" PRIx64, session->lineage);
	const char *replaces = session->journal ? session->journal->name : NULL;

	return write_record(journal,
			    json_pack("{s:s, s:i, s:s, s:I, s:s, s:I, s:s*}", "op", "open",
				      "version", RECORD_VERSION, "lineage", lineage, "generation",
				      (json_int_t)session->generation, "name", session->name, "uid",
				      (json_int_t)session->uid, "replaces", replaces),
			    &journal->send, 1);
}

int record_state(struct journal *journal, const struct session *session)
{
	const struct holder *holder = &session->holder;
	json_t *spaces = json_array();
	GHashTableIter iter;
	gpointer name, value;

	g_hash_table_iter_init(&iter, session->spaces);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		const struct space_status *status = value;

		json_array_append_new(
			spaces, json_pack("{s:s, s:i, s:s*}", "name", (const char *)name, "vaddr",
					  (int)status->vaddr, "warning", status->warning));
	}
	return write_record(journal,
			    json_pack("{s:s, s:i, s:I, s:I, s:i, s:s*, s:o}", "op", "state",
				      "state", (int)session->state, "since",
				      (json_int_t)session->since, "died", (json_int_t)session->died,
				      "pid", (int)holder->pid, "unit", session->unit, "spaces",
				      spaces),
			    &holder->pidfd, holder->pidfd >= 0 ? 1 : 0);
}

int record_remove(struct journal *journal, enum object_kind kind, const char *name)
{
	return write_record(journal,
			    json_pack("{s:s, s:s, s:s}", "op", "remove", "kind",
				      object_kind_name(kind), "name", name),
			    NULL, 0);
}

/* One record of objects in the making. */
struct batch {
	json_t *objects;
	int fds[JOURNAL_MAX_FDS];
	size_t n_fds;
};

/* As much of the object as there is room for. true: that was the rest of it. */
static bool batch_add(struct batch *batch, const struct object *object, size_t *at)
{
	while (*at < object->fds->len && batch->n_fds < JOURNAL_MAX_FDS) {
		size_t run = MIN(object_run(object, *at), JOURNAL_MAX_FDS - batch->n_fds);

		if (run > 0) {
			json_array_append_new(batch->objects,
					      object_to_json(object, *at, run, batch->n_fds));
			memcpy(batch->fds + batch->n_fds, &g_array_index(object->fds, int, *at),
			       run * sizeof(int));
			batch->n_fds += run;
		}
		*at += MAX(run, 1);
	}
	return *at == object->fds->len;
}

int record_objects_part(struct journal *journal, const struct object_set *objects,
			struct object_cursor *cursor)
{
	struct batch batch = {.objects = json_array()};
	bool first = cursor->object == 0 && cursor->number == 0, last;
	int r;

	while (cursor->object < objects->objects->len && batch.n_fds < JOURNAL_MAX_FDS &&
	       json_array_size(batch.objects) < OBJECTS_OF_RECORD)
		if (batch_add(&batch, g_ptr_array_index(objects->objects, cursor->object),
			      &cursor->number))
			*cursor = (struct object_cursor){.object = cursor->object + 1};
	last = cursor->object == objects->objects->len;
	r = write_record(journal,
			 json_pack("{s:s, s:o, s:b, s:b}", "op", "objects", "objects",
				   batch.objects, "first", first, "last", last),
			 batch.fds, batch.n_fds);
	return r < 0 ? r : !last;
}

int record_objects(struct journal *journal, const struct object_set *objects)
{
	struct object_cursor cursor = {0};
	int r;

	do {
		r = record_objects_part(journal, objects, &cursor);
	} while (r > 0);
	return r;
}

/*
 * As it came. Descriptors of it keep their numbers: where other objects' were, one of its own stands
 * in, which a reader closes unlooked at.
 */
static int record_opaque(struct journal *journal, const struct opaque *opaque)
{
	int fds[JOURNAL_MAX_FDS], any = -1;
	size_t n = MIN(opaque->fds.n, JOURNAL_MAX_FDS);

	for (size_t i = 0; i < n && any < 0; i++)
		any = opaque->fds.fds[i];
	for (size_t i = 0; i < n; i++)
		fds[i] = opaque->fds.fds[i] >= 0 ? opaque->fds.fds[i] : any;
	return write_record(journal,
			    json_pack("{s:s, s:O, s:b, s:b}", "op", "objects", "objects",
				      opaque->objects, "first", true, "last", true),
			    fds, any >= 0 ? n : 0);
}

/* Before the others: where two have one name, a reader goes by the later one. */
static int record_opaque_list(struct journal *journal, const GPtrArray *list)
{
	int r = 0;

	for (guint i = 0; i < list->len && r == 0; i++)
		r = record_opaque(journal, g_ptr_array_index(list, i));
	return r;
}

int record_rest(struct journal *journal, const struct session *session)
{
	int r = record_opaque_list(journal, session->opaque);

	return r == 0 ? record_objects(journal, &session->objects) : r;
}

int record_head(struct journal *journal, const struct session *session)
{
	int r = record_open(journal, session);

	return r == 0 ? record_state(journal, session) : r;
}

int record_complete(struct journal *journal)
{
	return write_record(journal, json_pack("{s:s}", "op", "complete"), NULL, 0);
}
