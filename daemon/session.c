/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A session as it stands: daemon/session.h. What becomes of it is in life.c, what it holds in
 * object.c, its journal in keep.c.
 */
#include "daemon/session.h"

#include <string.h>
#include <sys/random.h>

#include "common/fd.h"
#include "daemon/account.h"
#include "daemon/intake.h"
#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/namehash.h"
#include "daemon/opaque.h"
#include "daemon/owed.h"
#include "daemon/peer.h"
#include "daemon/unitlook.h"

enum session_state session_visible_state(const struct session *session)
{
	bool held = session->state == SESSION_ACTIVE || session->state == SESSION_RESTORING;

	return held && !session_is_held(session) ? SESSION_ORPHANED : session->state;
}

bool session_is_held(const struct session *session)
{
	return session->holder.pidfd >= 0;
}

void session_set_state(struct session *session, enum session_state state)
{
	if (log_is_debugging())
		log_debug(session, "session %s was %s, and is %s", session->name,
			  session_state_name(session->state), session_state_name(state));
	session->state = state;
	session->since = g_get_monotonic_time();
}

static void space_status_free(gpointer data)
{
	struct space_status *status = data;

	g_free(status->warning);
	g_free(status);
}

GHashTable *session_spaces_new(void)
{
	return g_hash_table_new_full(namehash, g_str_equal, g_free, space_status_free);
}

/* The holder */

void holder_clear(struct holder *holder)
{
	if (holder->death)
		event_free(holder->death);
	fd_close(&holder->pidfd);
	*holder = (struct holder){.pidfd = -1};
}

char *session_of_unit(const struct session *session)
{
	return session->unit ? g_strconcat(" of ", session->unit, NULL) : g_strdup("");
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *session_devices(const struct session *session)
{
	GPtrArray *devices = g_ptr_array_new();

	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);

		if (object->kind == OBJECT_DEVICE)
			g_ptr_array_add(devices, object->name);
	}
	g_ptr_array_sort(devices, compare_names);
	return devices;
}

size_t session_descriptors(const struct session *session)
{
	return object_set_total(&session->objects) + session->opaque_held;
}

/* Busy times */

void session_wait(struct session *session, struct peer *peer, void (*then)(struct peer *peer))
{
	peer->call.then = then;
	g_queue_push_tail(&session->waiting, peer_ref(peer));
}

void session_go_on(GQueue *waiting)
{
	struct peer *peer;

	while ((peer = g_queue_pop_head(waiting))) {
		peer_go_on(peer);
		peer_unref(peer);
	}
}

void session_set_idle(struct session *session)
{
	GQueue waiting = session->waiting;

	session->busy = false;
	g_queue_init(&session->waiting);
	if (session->holder.death)
		event_add(session->holder.death, NULL);
	session_go_on(&waiting);
}

/* Memory */

static uint64_t new_lineage(void)
{
	uint64_t random = 0;

	/* Of so few bytes it never fails, and never waits but at boot. 0 is that of older daemons. */
	while (random == 0)
		if (getrandom(&random, sizeof(random), 0) < 0)
			random = (uint64_t)g_random_int() << 32 | g_random_int();
	return random;
}

struct session *session_make(struct server *server, const char *name, uid_t uid,
			     enum session_state state)
{
	static uint64_t last_serial;
	struct session *session = g_new(struct session, 1);

	*session = (struct session){
		.server = server,
		.serial = ++last_serial,
		.name = g_strdup(name),
		.uid = uid,
		.account = account_get(uid),
		.state = state,
		.since = g_get_monotonic_time(),
		.lineage = new_lineage(),
		.holder = {.pidfd = -1},
		.spaces = session_spaces_new(),
		.debt.journals = g_ptr_array_new(),
		.opaque = opaque_list_new(),
		.waiting = G_QUEUE_INIT,
	};
	session->account->sessions++;
	object_set_init(&session->objects, session->account);
	return session;
}

static void free_journal(gpointer journal, gpointer unused)
{
	(void)unused;
	journal_free(journal);
}

void session_free(struct session *session)
{
	/* An answer on its way that names its descriptors would send what others are given by now. */
	g_assert(!session->peer || !session->peer->writer.fds);
	if (session->peer)
		session->peer->session = NULL;
	holder_clear(&session->holder);
	g_clear_pointer(&session->old, event_free);
	object_set_clear(&session->objects);
	account_count_in_flight(session->account, -(ssize_t)session->in_flight);
	account_count_descriptors(session->account, -(ssize_t)session->opaque_held);
	g_ptr_array_unref(session->opaque);
	session->account->sessions--;
	account_put(session->account);
	intake_free(session->intake);
	journal_free(session->journal);
	g_ptr_array_foreach(session->debt.journals, free_journal, NULL);
	g_ptr_array_unref(session->debt.journals);
	owed_free(session->debt.owed);
	g_hash_table_unref(session->spaces);
	summary_clear(&session->summary);
	g_free(session->problem);
	g_free(session->copy_of);
	unit_look_drop(session->unit_look);
	g_free(session->unit);
	g_free(session->name);
	g_free(session);
}
