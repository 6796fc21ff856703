/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must be true of the daemon: tests/fuzz/oracle.h. */
#include "tests/fuzz/oracle.h"

#include <glib.h>
#include <jansson.h>
#include <string.h>

#include "daemon/account.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "tests/fuzz/world.h"

#define SESSIONS_MAX 64

static struct seen {
	uint64_t serial;
	pid_t holder; /* by the world's numbers, which nobody has twice; 0: none */
} seen[SESSIONS_MAX];
static unsigned int n_seen;

static struct memory {
	char name[256];
	uid_t uid;
	uint64_t lineage;
	size_t held[OBJECT_KINDS];
	pid_t holder;
} memories[SESSIONS_MAX];
static unsigned int n_memories;

void oracle_begin(void)
{
	n_seen = 0;
}

static struct seen *see(const struct session *session)
{
	for (unsigned int i = 0; i < n_seen; i++)
		if (seen[i].serial == session->serial)
			return &seen[i];
	if (n_seen == SESSIONS_MAX)
		return NULL;
	seen[n_seen] = (struct seen){session->serial, 0};
	return &seen[n_seen++];
}

static void check_holder(const struct session *session)
{
	struct seen *before = see(session);
	pid_t holder = session->holder.pidfd >= 0 ? session->holder.pid : 0;

	if (!before || before->holder == holder)
		return;
	/* A journal of somebody's own making tells any number. */
	g_assert(before->holder == 0 || holder == 0 || !world_lives(before->holder));
	before->holder = holder;
}

void oracle_look(struct server *server)
{
	GHashTableIter iter;
	gpointer session;

	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &session, NULL))
		check_holder(session);
}

void oracle_answer(const char *text, size_t size)
{
	json_t *answer = json_loadb(text, size, 0, NULL);

	/* For whoever writes an input. */
	if (g_getenv("FUZZ_SHOW"))
		g_printerr("%.*s\n", (int)size, text);
	g_assert(json_is_object(json_object_get(answer, "parameters")));
	json_decref(answer);
}

static bool is_promised(const struct session *session)
{
	return session->journal && !session->busy && session->state != SESSION_RELEASING &&
	       session->state != SESSION_UNREADABLE;
}

static void remember(const struct session *session)
{
	struct memory *memory = &memories[n_memories];

	if (n_memories == SESSIONS_MAX || !is_promised(session))
		return;
	g_strlcpy(memory->name, session->name, sizeof(memory->name));
	memory->uid = session->uid;
	memory->lineage = session->lineage;
	memcpy(memory->held, session->objects.held, sizeof(memory->held));
	memory->holder = session->holder.pidfd >= 0 ? session->holder.pid : 0;
	n_memories++;
}

void oracle_remember(struct server *server)
{
	GHashTableIter iter;
	gpointer session;

	n_memories = 0;
	g_hash_table_iter_init(&iter, server->sessions);
	while (g_hash_table_iter_next(&iter, &session, NULL))
		remember(session);
}

static void compare(struct server *server, const struct memory *memory)
{
	const struct session *session = server_find_session(server, memory->uid, memory->name);

	g_assert(session && session->lineage == memory->lineage);
	g_assert(session->state != SESSION_UNREADABLE);
	g_assert(memcmp(session->objects.held, memory->held, sizeof(memory->held)) == 0);
	if (world_lives(memory->holder))
		g_assert(session->holder.pidfd >= 0 && session->holder.pid == memory->holder);
}

void oracle_compare(struct server *server)
{
	for (unsigned int i = 0; i < n_memories; i++)
		compare(server, &memories[i]);
}

void oracle_account(uid_t uid)
{
	struct account *account = account_get(uid);

	g_assert(account->references == 1);
	g_assert(account->sessions == 0 && account->connections == 0 && account->monitors == 0);
	g_assert(account->closing == 0);
	for (size_t i = 0; i < G_N_ELEMENTS(account->errands); i++)
		g_assert(account->errands[i] == 0);
	g_assert(account->descriptors == 0 && account->gaps == 0 && account->bytes == 0);
	g_assert(account->in_flight == 0 && account->unread == 0);
	account_put(account);
}
