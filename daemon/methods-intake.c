/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is staged goes into the session: it is looked whether it fits, what is held already is left
 * out, the rest is kept, and then the session's. A small batch at once; of a large one a part in each
 * turn of its user's, with the session busy meanwhile. If the daemon dies on the way, the batch is in
 * the journal whole or not at all. If its peer does, it goes on.
 */
#include <errno.h>

#include "daemon/account.h"
#include "daemon/devices.h"
#include "daemon/happen.h"
#include "daemon/intake.h"
#include "daemon/keep.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define TABLES_MAX	    64 /* of a session: onlookers make the daemon read them */
#define OBJECTS_OF_TURN	    64 /* some 0.1 ms, like the next */
#define DESCRIPTORS_OF_TURN 512

static void refuse(struct intake *intake, const char *refused, int error, char *why)
{
	intake->refused = refused;
	intake->error = error;
	intake->why = why;
	intake->step = NULL;
}

static void go_on_with(struct intake *intake, void (*step)(struct intake *intake))
{
	intake->cursor = (struct object_cursor){0};
	intake->step = step;
}

/* The objects of this turn, one after the other; NULL: it is over, or all were. */
static struct object *next_object(const struct intake *intake, guint *left)
{
	if (*left == 0 || intake->cursor.object == intake->objects.objects->len)
		return NULL;
	--*left;
	return g_ptr_array_index(intake->objects.objects, intake->cursor.object);
}

static bool is_through(const struct intake *intake)
{
	return intake->cursor.object == intake->objects.objects->len;
}

/* The objects are the session's, and so are they in the set that is left. */
static void take(struct intake *intake)
{
	struct session *session = intake->session;
	struct object *object;
	guint left = OBJECTS_OF_TURN;

	/* The first batch is mostly the largest, and takes no time. */
	if (session->objects.objects->len == 0)
		object_set_move(&session->objects, &intake->objects);
	while ((object = next_object(intake, &left))) {
		intake->is_moved = true;
		intake->cursor.object++;
		object_set_add(&session->objects, object);
	}
	if (is_through(intake))
		intake->step = NULL;
}

static void keep(struct intake *intake)
{
	struct session *session = intake->session;
	int r = keep_objects_part(session, &intake->objects, &intake->cursor);

	if (r == 0) {
		go_on_with(intake, take);
	} else if (r < 0) {
		intake->error = r;
		intake->step = NULL;
		/* Its devices are not, unless one is being closed: then they go with that. */
		if (!session->device_closing)
			devices_drop_closed(session->server, session);
	}
}

/* A device goes from one session to another only over its reset. */
static char *why_not_device(const struct intake *intake, const char *name,
			    const struct session *other)
{
	if (intake->uid == 0 || intake->uid == other->uid)
		return g_strdup_printf("device %s is held by session %s of uid %u: release that "
				       "first, so that the device is reset between",
				       name, other->name, other->uid);
	return g_strdup_printf("device %s is held by another user's session: root can tell whose "
			       "(vfio-cprctl list) and release that, so that the device is reset "
			       "between",
			       name);
}

/*
 * What is left of the batch is new. Its devices are the session's from now on, in one turn for all: a
 * batch of another session has its turns meanwhile.
 */
static void claim_devices(struct intake *intake)
{
	struct session *session = intake->session;

	for (guint i = 0; i < intake->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(intake->objects.objects, i);
		const struct session *other =
			object->kind == OBJECT_DEVICE
				? devices_holder(session->server, object->name)
				: NULL;

		if (other && other != session) {
			refuse(intake, "Refused", EBUSY,
			       why_not_device(intake, object->name, other));
			return;
		}
	}
	if (session->objects.held[OBJECT_TABLE] + intake->objects.held[OBJECT_TABLE] > TABLES_MAX) {
		refuse(intake, "QuotaExceeded", EDQUOT,
		       g_strdup_printf("a session has at most %d mapping tables", TABLES_MAX));
		return;
	}
	devices_take(session->server, session, &intake->objects);
	/* The journal has no word of nothing. */
	go_on_with(intake, intake->objects.objects->len > 0 ? keep : take);
}

/* What is held already is in the journal already, and is left out. */
static void sort_out(struct intake *intake)
{
	const struct object_set *held = &intake->session->objects;
	struct object *object;
	guint left = OBJECTS_OF_TURN;

	while ((object = next_object(intake, &left))) {
		intake->is_moved = true;
		intake->cursor.object++;
		object_set_add_missing(&intake->missing, object, held);
	}
	if (!is_through(intake))
		return;
	object_set_forget(&intake->objects, intake->cursor.object);
	object_set_clear(&intake->objects);
	object_set_init(&intake->objects, intake->session->account);
	intake->is_moved = false;
	object_set_move(&intake->objects, &intake->missing);
	go_on_with(intake, claim_devices);
}

/* Whether it can go into the session. */
static void fit(struct intake *intake)
{
	const struct object_set *held = &intake->session->objects;
	size_t descriptors = DESCRIPTORS_OF_TURN;
	guint left = OBJECTS_OF_TURN;
	struct object *object;

	while (descriptors > 0 && (object = next_object(intake, &left))) {
		char *conflict = object_set_conflict_part(held, object, &intake->cursor.number,
							  &descriptors);

		if (conflict) {
			refuse(intake, "AlreadyExists", EEXIST, conflict);
			return;
		}
		if (intake->cursor.number < object->fds->len)
			return;
		intake->overlaps |= object_set_find(held, object->kind, object->name) != NULL;
		intake->cursor = (struct object_cursor){.object = intake->cursor.object + 1};
	}
	if (is_through(intake))
		go_on_with(intake, intake->overlaps ? sort_out : claim_devices);
}

static void wait_for_turn(struct intake *intake)
{
	turn_wait(intake->session->server->turns, &intake->turn);
}

static void on_turn(void *data)
{
	struct intake *intake = data;

	intake->step(intake);
	if (intake->step)
		wait_for_turn(intake);
	else
		session_set_idle(intake->session);
}

static void finish(struct peer *peer);

/* A batch that is small is through with a few steps, and nobody has to wait for those. */
static bool is_small(const struct intake *intake)
{
	return intake->objects.objects->len <= OBJECTS_OF_TURN &&
	       object_set_slots(&intake->objects) <= DESCRIPTORS_OF_TURN;
}

static void begin(struct peer *peer, struct intake *intake, void (*step)(struct intake *intake))
{
	struct session *session = intake->session;

	go_on_with(intake, step);
	if (is_small(intake)) {
		while (intake->step)
			intake->step(intake);
		finish(peer);
		return;
	}
	session->busy = true;
	session_wait(session, peer, finish);
	wait_for_turn(intake);
}

/* The journal was written anew: if it has no room now, it never will. */
static void keep_again(struct peer *peer)
{
	struct session *session = method_held_session(peer, keep_again);

	if (!session)
		return;
	session->intake->again = true;
	begin(peer, session->intake, claim_devices);
}

/* Nothing has changed. */
static void refuse_unkept(struct peer *peer, const struct session *session, int error)
{
	g_autofree char *cause = keep_explain(error);

	peer_fail(peer, "QuotaExceeded", error == -EAGAIN ? ENOSPC : -error,
		  "session %s takes no more for now: %s", session->name, cause);
}

static void finish(struct peer *peer)
{
	struct session *session = method_held_session(peer, finish);
	struct intake *intake = session ? session->intake : NULL;

	if (!intake)
		return;
	if (intake->error < 0 && !intake->again) {
		intake->error = 0;
		method_keep_anew(peer, session, keep_again);
		return;
	}
	session->intake = NULL;
	if (intake->refused) {
		peer_fail(peer, intake->refused, intake->error, "%s", intake->why);
	} else if (intake->error < 0) {
		refuse_unkept(peer, session, intake->error);
	} else {
		session_happened(session, HAPPENED_CHANGED, NULL);
		peer_reply(peer, json_object(), NULL, 0);
		keep_tidy(session);
	}
	intake_free(intake);
}

void method_take_in(struct peer *peer, struct session *session)
{
	/* Of one whose peer went before its end nobody has asked what came of it. */
	intake_free(session->intake);
	session->intake = intake_new(session, peer->uid, &peer->staged);
	turn_init(&session->intake->turn, session->account, on_turn, session->intake);
	begin(peer, session->intake, fit);
}
