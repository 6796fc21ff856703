/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session from its records: daemon/replay.h. */
#include "daemon/replay.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "common/fd.h"
#include "daemon/opaque.h"
#include "daemon/record.h"

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
	json_int_t version = 0;

	if (replay->name)
		return g_strdup("it begins twice");
	replay_identity(replay, record);
	if (json_unpack((json_t *)record, "{s:I}", "version", &version) == 0 &&
	    version > RECORD_VERSION)
		return g_strdup_printf("it is of version %" JSON_INTEGER_FORMAT
				       ", this daemon reads up to %d: start a newer "
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
	const gint64 now = g_get_monotonic_time();
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
	replay->since = CLAMP(since, 0, now);
	replay->died = CLAMP(died, SESSION_DIED_UNSEEN, now);
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
		/* A later daemon may know more of them. */
		if (vaddr < SPACE_OWNED || vaddr > SPACE_UNKNOWN)
			vaddr = SPACE_UNKNOWN;
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

/* Objects in the making: a change of several records counts when its last one is there. */
struct staging {
	struct object_set objects;
	GPtrArray *opaque;
};

static void staging_clear(struct staging *staging)
{
	auto_fdlist fds = FDLIST_INIT;

	set_clear(&staging->objects);
	object_set_init(&staging->objects, NULL);
	opaque_list_take_all(staging->opaque, &fds);
}

/* What the set has already is dead weight of the journal, of which there may be any amount. */
static void shed(const struct object_set *set, struct object *object)
{
	const struct object *held = object_set_find(set, object->kind, object->name);

	if (!held || held->kind == OBJECT_STATE || held->id != object->id)
		return;
	for (guint i = 0; i < MIN(object->fds->len, held->fds->len); i++) {
		int *fd = &g_array_index(object->fds, int, i);

		if (*fd < 0 || g_array_index(held->fds, int, i) < 0)
			continue;
		fd_close(fd);
		object->held--;
	}
}

/* Out of the set, and into the list if it may be of use to another daemon. */
static void move_out(struct object_set *set, struct object *held, const struct object *object,
		     GPtrArray *opaque)
{
	g_autofree char *reason =
		g_strdup_printf("%s \"%s\": another object was stored later by its name or id",
				object_kind_name(held->kind), held->name);

	object_set_remove(set, held);
	if (held->kind == OBJECT_STATE && object->kind == OBJECT_STATE)
		object_close(held); /* it was stored anew */
	else
		opaque_list_add_object(opaque, held, reason);
}

/*
 * What has the object's name or id goes out of the set: a daemon that did not know that has allowed
 * it since, and the VMM goes by the later one.
 */
static void make_way(struct object_set *set, const struct object *object, GPtrArray *opaque)
{
	struct object *held = object_set_find(set, object->kind, object->name);

	if (held && (held->id != object->id || held->kind == OBJECT_STATE)) {
		move_out(set, held, object, opaque);
		held = NULL;
	}
	if (object_set_find_id(set, object->id) != held)
		move_out(set, object_set_find_id(set, object->id), object, opaque);
}

static void take_staged(struct replay *replay, struct staging *staging)
{
	const GPtrArray *objects = staging->objects.objects;

	for (guint i = 0; i < objects->len; i++)
		make_way(&replay->objects, g_ptr_array_index(objects, i), replay->opaque);
	object_set_move(&replay->objects, &staging->objects);
	opaque_list_move(replay->opaque, staging->opaque);
}

/* An object, or NULL and why; then each of the message's descriptors is where it was. */
static struct object *read_object(json_t *json, struct fdlist *fds, char **ret_reason)
{
	g_autofree int *before = g_memdup2(fds->fds, fds->n * sizeof(int));
	g_autofree char *parameter = NULL, *message = NULL;
	const char *kind = json_string_value(json_object_get(json, "kind"));
	const char *name = json_string_value(json_object_get(json, "name"));
	size_t n = fds->n, used = 0;
	struct object *object = object_from_record(json, fds, &used, &parameter, &message);

	if (object)
		return object;
	/* Those that were taken are at the end of the list now. */
	if (n > 0)
		memcpy(fds->fds, before, n * sizeof(int));
	fds->n = n;
	*ret_reason = g_strdup_printf("%s \"%s\": %s", kind ? kind : "an object", name ? name : "",
				      message);
	return NULL;
}

static void stage_objects(struct replay *replay, struct staging *staging, json_t *objects,
			  struct fdlist *fds)
{
	g_autofree char *reason = NULL;
	json_t *json, *rest = json_array();
	size_t i;

	json_array_foreach(objects, i, json)
	{
		g_autofree char *why = NULL;
		struct object *object = read_object(json, fds, &why);

		if (object) {
			shed(&replay->objects, object);
			shed(&staging->objects, object);
			make_way(&staging->objects, object, staging->opaque);
			object_set_add(&staging->objects, object);
			continue;
		}
		json_array_append(rest, json);
		if (!reason)
			reason = g_steal_pointer(&why);
	}
	if (reason)
		opaque_list_add(staging->opaque, rest, fds, reason);
	else
		json_decref(rest);
}

static char *replay_objects(struct replay *replay, struct staging *staging, const json_t *record,
			    struct fdlist *fds)
{
	json_t *objects;
	int first, last;

	if (json_unpack((json_t *)record, "{s:o, s:b, s:b}", "objects", &objects, "first", &first,
			"last", &last) < 0 ||
	    !json_is_array(objects))
		return g_strdup("a record of objects is broken");
	if (first)
		staging_clear(staging);
	stage_objects(replay, staging, objects, fds);
	if (last)
		take_staged(replay, staging);
	return NULL;
}

static char *replay_remove(struct replay *replay, const json_t *record)
{
	g_autofree char *spelled = NULL;
	const char *kind_name, *name;
	struct object *object = NULL;
	int kind;

	if (json_unpack((json_t *)record, "{s:s, s:s}", "kind", &kind_name, "name", &name) < 0)
		return g_strdup("a record of a removal is broken");
	replay->removed = true;
	kind = object_kind_from_name(kind_name);
	if (kind >= 0) {
		spelled = object_spell(kind, name);
		object = object_set_find(&replay->objects, kind, spelled);
	}
	if (kind == OBJECT_DEVICE)
		g_ptr_array_add(replay->removed_devices, g_strdup(spelled));
	if (!object) {
		opaque_list_remove(replay->opaque, kind_name, name);
		return NULL;
	}
	object_set_remove(&replay->objects, object);
	object_close(object);
	return NULL;
}

static char *replay_record(struct journal *journal, struct replay *replay, struct staging *staging,
			   const json_t *record, struct fdlist *fds)
{
	const char *op = json_string_value(json_object_get(record, "op"));

	if (op && strcmp(op, "open") == 0)
		return replay_open(journal, replay, record, fds);
	if (!op || !replay->name)
		return g_strdup("it does not begin as a journal does");
	if (strcmp(op, "objects") == 0)
		return replay_objects(replay, staging, record, fds);
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

static char *replay_all(struct journal *journal, struct replay *replay, struct staging *staging)
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
			problem = replay_record(journal, replay, staging, record, &fds);
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
		.opaque = opaque_list_new(),
		.removed_devices = g_ptr_array_new_with_free_func(g_free),
	};
	struct staging staging = {.opaque = opaque_list_new()};
	char *problem;

	object_set_init(&replay.objects, NULL);
	object_set_init(&staging.objects, NULL);
	problem = replay_all(journal, &replay, &staging);
	staging_clear(&staging);
	object_set_clear(&staging.objects);
	g_ptr_array_unref(staging.opaque);
	if (!replay.name)
		journal_tells(journal, &replay.name, &replay.uid);
	*ret_replay = replay;
	return problem;
}

void replay_clear(struct replay *replay)
{
	auto_fdlist fds = FDLIST_INIT;

	set_clear(&replay->objects);
	opaque_list_take_all(replay->opaque, &fds);
	g_ptr_array_unref(replay->opaque);
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
