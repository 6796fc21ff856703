/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session as records and back: daemon/record.h. */
#include "daemon/record.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "common/fd.h"

/* Writing */

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
	struct journal *journal;
	json_t *objects;
	int fds[JOURNAL_MAX_FDS];
	size_t n_fds;
	bool first;
};

static int batch_write(struct batch *batch, bool last)
{
	int r = write_record(batch->journal,
			     json_pack("{s:s, s:O, s:b, s:b}", "op", "objects", "objects",
				       batch->objects, "first", batch->first, "last", last),
			     batch->fds, batch->n_fds);

	json_array_clear(batch->objects);
	batch->n_fds = 0;
	batch->first = false;
	return r;
}

static int batch_add(struct batch *batch, const struct object *object)
{
	size_t at = 0, run;
	int r = 0;

	while (at < object->fds->len && r == 0) {
		if (batch->n_fds == JOURNAL_MAX_FDS)
			r = batch_write(batch, false);
		run = MIN(object_run(object, at), JOURNAL_MAX_FDS - batch->n_fds);
		if (run > 0) {
			json_array_append_new(batch->objects,
					      object_to_json(object, at, run, batch->n_fds));
			memcpy(batch->fds + batch->n_fds, &g_array_index(object->fds, int, at),
			       run * sizeof(int));
			batch->n_fds += run;
		}
		at += MAX(run, 1);
	}
	return r;
}

int record_objects(struct journal *journal, const struct object_set *objects)
{
	struct batch batch = {.journal = journal, .objects = json_array(), .first = true};
	int r = 0;

	for (guint i = 0; i < objects->objects->len && r == 0; i++)
		r = batch_add(&batch, g_ptr_array_index(objects->objects, i));
	if (r == 0)
		r = batch_write(&batch, true);
	json_decref(batch.objects);
	return r;
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

/* Replaying */

/* The sending end, which the first record brings unless it came from the fd store. */
static void take_sending_end(struct journal *journal, struct fdlist *fds)
{
	int fd = journal->send < 0 ? fdlist_take(fds, 0) : -1;

	if (fd >= 0 && sd_is_socket_unix(fd, SOCK_SEQPACKET, 0, NULL, 0) > 0)
		journal->send = fd;
	else
		fd_close(&fd);
}

/* What is the same in every version, as far as it is there. */
static void replay_identity(struct replay *replay, const json_t *record)
{
	const char *name = "", *lineage = "", *replaces = NULL;
	json_int_t generation = 0, uid = -1;

	(void)json_unpack((json_t *)record, "{s?s, s?I, s?s, s?I, s?s}", "lineage", &lineage,
			  "generation", &generation, "name", &name, "uid", &uid, "replaces",
			  &replaces);
	if (!session_name_is_valid(name) || uid < 0 || uid >= UINT32_MAX)
		return;
	replay->lineage = g_ascii_strtoull(lineage, NULL, 16);
	replay->generation = generation;
	replay->replaces = g_strdup(replaces);
	replay->name = g_strdup(name);
	replay->uid = uid;
}

static char *replay_open(struct journal *journal, struct replay *replay, const json_t *record,
			 struct fdlist *fds)
{
	int version = 0;

	if (replay->name)
		return g_strdup("it begins twice");
	replay_identity(replay, record);
	if (json_unpack((json_t *)record, "{s:i}", "version", &version) == 0 &&
	    version > RECORD_VERSION)
		return g_strdup_printf(
			"it is of version %d, this daemon reads up to %d: start a newer "
			"vfio-cprd",
			version, RECORD_VERSION);
	if (!replay->name)
		return g_strdup("its first record is broken");
	take_sending_end(journal, fds);
	return NULL;
}

static char *replay_state(struct replay *replay, const json_t *record, struct fdlist *fds)
{
	int state = 0, vaddr;
	json_int_t since = 0, died = 0, pid = 0;
	const char *name, *warning, *unit = NULL;
	json_t *spaces, *space;
	size_t i;

	if (json_unpack((json_t *)record, "{s:i, s:I, s?I, s:I, s?s, s:o}", "state", &state,
			"since", &since, "died", &died, "pid", &pid, "unit", &unit, "spaces",
			&spaces) < 0 ||
	    state < SESSION_ACTIVE || state > SESSION_RELEASING || pid < 0 || pid > INT_MAX)
		return g_strdup("a record of its state is broken");
	fd_close(&replay->holder.pidfd);
	replay->state = state;
	replay->since = since;
	replay->died = died;
	g_free(replay->unit);
	replay->unit = g_strdup(unit);
	replay->holder.pid = pid;
	replay->holder.pidfd = fdlist_take(fds, 0);
	g_hash_table_remove_all(replay->spaces);
	json_array_foreach(spaces, i, space)
	{
		struct space_status *status;

		warning = NULL;
		if (json_unpack(space, "{s:s, s:i, s?s}", "name", &name, "vaddr", &vaddr, "warning",
				&warning) < 0)
			continue;
		status = g_new(struct space_status, 1);
		*status = (struct space_status){vaddr, g_strdup(warning)};
		g_hash_table_replace(replay->spaces, g_strdup(name), status);
	}
	return NULL;
}

/* Closes at once: it is in the journal's queue too. */
static void set_clear(struct object_set *set)
{
	auto_fdlist fds = FDLIST_INIT;

	object_set_take_all(set, &fds);
	object_set_clear(set);
}

static void object_close(struct object *object)
{
	auto_fdlist fds = FDLIST_INIT;

	object_take_all(object, &fds);
	object_free(object);
}

/* What the set has already is dead weight of the journal, of which there may be any amount. */
static void shed(const struct object_set *set, struct object *object)
{
	const struct object *held = object_set_find(set, object->kind, object->name);

	if (!held || held->kind == OBJECT_STATE)
		return;
	for (guint i = 0; i < MIN(object->fds->len, held->fds->len); i++) {
		int *fd = &g_array_index(object->fds, int, i);

		if (*fd < 0 || g_array_index(held->fds, int, i) < 0)
			continue;
		fd_close(fd);
		object->held--;
	}
}

/* A state that is stored anew takes the place of the old one. */
static void replace_states(struct object_set *set, const struct object_set *staged)
{
	for (guint i = 0; i < staged->objects->len; i++) {
		const struct object *object = g_ptr_array_index(staged->objects, i);
		struct object *held = object_set_find(set, object->kind, object->name);

		if (!held || held->kind != OBJECT_STATE)
			continue;
		object_set_remove(set, held);
		object_close(held);
	}
}

/* A change of several records counts when its last one is there: until then it is staged. */
static char *replay_objects(struct replay *replay, struct object_set *staged, const json_t *record,
			    struct fdlist *fds)
{
	json_t *objects, *json;
	int first, last;
	size_t i, used = 0;

	if (json_unpack((json_t *)record, "{s:o, s:b, s:b}", "objects", &objects, "first", &first,
			"last", &last) < 0)
		return g_strdup("a record of objects is broken");
	if (first) {
		set_clear(staged);
		object_set_init(staged, NULL);
	}
	json_array_foreach(objects, i, json)
	{
		g_autofree char *parameter = NULL, *message = NULL;
		struct object *object = object_from_record(json, fds, &used, &parameter, &message);

		if (!object)
			return g_strdup_printf("a record of objects is broken: %s: %s", parameter,
					       message);
		if (!object_set_takes(staged, object) ||
		    !object_set_takes(&replay->objects, object)) {
			object_close(object);
			return g_strdup("a record of objects is broken: two have one name or id");
		}
		shed(&replay->objects, object);
		shed(staged, object);
		object_set_add(staged, object);
	}
	if (last) {
		replace_states(&replay->objects, staged);
		object_set_move(&replay->objects, staged);
	}
	return NULL;
}

static char *replay_remove(struct replay *replay, const json_t *record)
{
	g_autofree char *spelled = NULL;
	const char *kind_name, *name;
	struct object *object;
	int kind = -1;

	if (json_unpack((json_t *)record, "{s:s, s:s}", "kind", &kind_name, "name", &name) == 0)
		kind = object_kind_from_name(kind_name);
	if (kind < 0)
		return g_strdup("a record of a removal is broken");
	spelled = object_spell(kind, name);
	object = object_set_find(&replay->objects, kind, spelled);
	replay->removed = true;
	if (kind == OBJECT_DEVICE)
		g_ptr_array_add(replay->removed_devices, g_strdup(spelled));
	if (object) {
		object_set_remove(&replay->objects, object);
		object_close(object);
	}
	return NULL;
}

static char *replay_record(struct journal *journal, struct replay *replay,
			   struct object_set *staged, const json_t *record, struct fdlist *fds)
{
	const char *op = json_string_value(json_object_get(record, "op"));

	if (op && strcmp(op, "open") == 0)
		return replay_open(journal, replay, record, fds);
	if (!op || !replay->name)
		return g_strdup("it does not begin as a journal does");
	if (strcmp(op, "objects") == 0)
		return replay_objects(replay, staged, record, fds);
	if (strcmp(op, "state") == 0)
		return replay_state(replay, record, fds);
	if (strcmp(op, "remove") == 0)
		return replay_remove(replay, record);
	if (strcmp(op, "complete") == 0) {
		replay->complete = true;
		return NULL;
	}
	return g_strdup_printf("it has a record \"%s\", which this daemon does not know", op);
}

static char *replay_all(struct journal *journal, struct replay *replay, struct object_set *staged)
{
	char *problem = NULL;
	int r = journal_rewind(journal);

	while (r >= 0 && !problem) {
		auto_fdlist fds = FDLIST_INIT;
		json_t *record = NULL;

		r = journal_peek(journal, &record, &fds);
		if (r == 0)
			break;
		if (r > 0)
			problem = replay_record(journal, replay, staged, record, &fds);
		json_decref(record);
	}
	if (r == -EMFILE)
		return g_strdup(
			"not all of its descriptors can be received: either the daemon has as many as "
			"it may (then raise LimitNOFILE of vfio-cprd.service) or a security module "
			"(SELinux, AppArmor) forbids one of them (its log tells which); then reload or "
			"restart vfio-cprd");
	if (r < 0)
		return g_strdup_printf("it cannot be read: %s", g_strerror(-r));
	if (!problem && !replay->name)
		problem = g_strdup("it is empty");
	return problem;
}

char *record_replay(struct journal *journal, struct replay *ret_replay)
{
	struct replay replay = {
		.holder.pidfd = -1,
		.spaces = session_spaces_new(),
		.removed_devices = g_ptr_array_new_with_free_func(g_free),
	};
	struct object_set staged;
	char *problem;

	object_set_init(&replay.objects, NULL);
	object_set_init(&staged, NULL);
	problem = replay_all(journal, &replay, &staged);
	set_clear(&staged);
	if (!replay.name)
		journal_tells(journal, &replay.name, &replay.uid);
	*ret_replay = replay;
	return problem;
}

void replay_clear(struct replay *replay)
{
	set_clear(&replay->objects);
	g_clear_pointer(&replay->spaces, g_hash_table_unref);
	g_clear_pointer(&replay->removed_devices, g_ptr_array_unref);
	fd_close(&replay->holder.pidfd);
	g_free(replay->replaces);
	g_free(replay->unit);
	g_free(replay->name);
}

void record_whose(struct journal *journal, char **ret_name, uid_t *ret_uid)
{
	auto_fdlist fds = FDLIST_INIT;
	struct replay replay = {0};
	json_t *record = NULL;

	if (journal_rewind(journal) == 0 && journal_peek(journal, &record, &fds) > 0 &&
	    g_strcmp0(json_string_value(json_object_get(record, "op")), "open") == 0)
		replay_identity(&replay, record);
	json_decref(record);
	if (!replay.name)
		journal_tells(journal, &replay.name, &replay.uid);
	g_free(replay.replaces);
	*ret_name = replay.name;
	*ret_uid = replay.uid;
}
