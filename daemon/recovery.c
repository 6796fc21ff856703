/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recovery: sorts what systemd hands over, replays each journal, and lets the newest whole copy of
 * each session win. What cannot be read is kept, and shown as a session that is unreadable.
 */
#include "daemon/recovery.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "daemon/devices.h"
#include "daemon/fdstore.h"
#include "daemon/keep.h"
#include "daemon/life.h"
#include "daemon/log.h"
#include "daemon/record.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/worker.h"

/* The two ends of a journal, put together by name. */
struct ends {
	int receive, send;
};

static bool is_journal_end(int fd, const char *name)
{
	return g_str_has_prefix(name, JOURNAL_PREFIX) &&
	       (g_str_has_suffix(name, "-r") || g_str_has_suffix(name, "-s")) &&
	       sd_is_socket_unix(fd, SOCK_SEQPACKET, -1, NULL, 0) > 0;
}

static void add_end(GHashTable *journals, int fd, const char *name)
{
	char *base = g_strndup(name, strlen(name) - 2);
	struct ends *ends = g_hash_table_lookup(journals, base);

	if (!ends) {
		ends = g_new(struct ends, 1);
		*ends = (struct ends){-1, -1};
		g_hash_table_insert(journals, base, ends);
	} else {
		g_free(base);
	}
	*(g_str_has_suffix(name, "-r") ? &ends->receive : &ends->send) = fd;
}

static void put_session(struct server *server, struct replay *replay, struct journal *journal)
{
	struct session *session;

	if (journal->receive >= 0)
		worker_close(&journal->receive, 1);
	journal->receive = -1;
	session = session_recover(server, replay, journal);
	devices_take(server, session, &session->objects);
	if (journal->send < 0 && !session->busy)
		keep_anew(session, NULL);
}

/* A journal that was read, one of perhaps several copies of its session. */
struct copy {
	struct journal *journal;
	struct replay replay;
};

static void copy_free(struct copy *copy)
{
	replay_clear(&copy->replay);
	g_free(copy);
}

static void copy_drop(struct copy *copy)
{
	keep_drop(copy->journal);
	copy_free(copy);
}

/* The copies of all sessions: the newest whole one of each, and those whose making was interrupted. */
struct copies {
	GHashTable *whole;     /* "uid/name" -> struct copy */
	GPtrArray *unfinished; /* of struct copy */
};

static char *copy_key(const struct copy *copy)
{
	return g_strdup_printf("%u/%s", copy->replay.uid, copy->replay.name);
}

static void keep_unreadable(struct server *server, struct journal *journal, const char *problem)
{
	log_error(NULL, "journal %s is kept aside: %s", journal->name, problem);
	session_unreadable(server, journal->name, journal, problem);
}

/* Reads a journal into copies. */
static void read_journal(struct server *server, struct copies *copies, struct journal *journal)
{
	g_autofree char *problem = NULL, *key = NULL;
	struct copy *copy, *other;
	struct replay replay;

	if (journal->receive < 0) {
		/* The last daemon was dropping it, and got as far as this end. */
		keep_drop(journal);
		return;
	}
	problem = record_replay(journal, &replay);
	if (problem) {
		keep_unreadable(server, journal, problem);
		return;
	}
	copy = g_new(struct copy, 1);
	*copy = (struct copy){journal, replay};
	if (!replay.complete) {
		g_ptr_array_add(copies->unfinished, copy);
		return;
	}
	key = copy_key(copy);
	other = g_hash_table_lookup(copies->whole, key);
	if (other && other->journal->generation >= journal->generation) {
		copy_drop(copy);
		return;
	}
	if (other) {
		g_hash_table_remove(copies->whole, key);
		copy_drop(other);
	}
	g_hash_table_insert(copies->whole, g_steal_pointer(&key), copy);
}

/*
 * A copy whose last record is missing never took effect: the older, whole copy is the session. If
 * there is none and this one holds nothing, the session had not been acknowledged to anybody.
 */
static void judge_unfinished(struct server *server, const struct copies *copies, struct copy *copy)
{
	g_autofree char *key = copy_key(copy);

	if (g_hash_table_contains(copies->whole, key) || copy->replay.objects.objects->len == 0) {
		copy_drop(copy);
		return;
	}
	keep_unreadable(server, copy->journal, "it was never finished, and there is no other copy");
	copy_free(copy);
}

static void read_journals(struct server *server, GHashTable *journals)
{
	g_autoptr(GHashTable) whole = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autoptr(GPtrArray) unfinished = g_ptr_array_new();
	struct copies copies = {whole, unfinished};
	GHashTableIter iter;
	gpointer name, value;

	g_hash_table_iter_init(&iter, journals);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		const struct ends *ends = value;

		read_journal(server, &copies, journal_found(name, ends->receive, ends->send));
	}
	for (guint i = 0; i < unfinished->len; i++)
		judge_unfinished(server, &copies, g_ptr_array_index(unfinished, i));
	g_hash_table_iter_init(&iter, whole);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		struct copy *copy = value;

		put_session(server, &copy->replay, copy->journal);
		copy_free(copy);
	}
}

static void keep_aside(struct server *server, int fd, const char *fd_name)
{
	g_autofree char *name = g_strdup_printf("%s#%d", fd_name, fd);

	fdstore_take(fd_name);
	log_error(NULL, "descriptor %s from systemd is no journal: kept aside", fd_name);
	session_unreadable(server, name, journal_foreign(fd_name, fd),
			   "it is no journal of vfio-cprd");
}

int recovery_run(struct server *server)
{
	g_autoptr(GHashTable)
		journals = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_autofree char *held = NULL;
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names), listeners = 0;

	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0) {
			fdstore_take_socket(names[i]);
			server_listen(server, fd);
			listeners++;
		} else if (is_journal_end(fd, names[i])) {
			fdstore_take(names[i]);
			add_end(journals, fd, names[i]);
		} else {
			keep_aside(server, fd, names[i]);
		}
		free(names[i]);
	}
	free(names);
	read_journals(server, journals);
	held = server_describe_held(server);
	if (held)
		log_notice(NULL, "back from systemd's fd store: %s", held);
	return listeners;
}
