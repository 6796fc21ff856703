/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recovery: sorts what systemd hands over, and makes a session of the copies of each that there are.
 * What is not the session, or cannot be read, is kept and shown as one that is unreadable, of the
 * same owner. It has the session's own name if there is no other, so that nobody gets a new session
 * under it; and its turn comes when the one that was used instead is released.
 */
#include "daemon/recovery.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "daemon/copies.h"
#include "daemon/fdstore.h"
#include "daemon/keep.h"
#include "daemon/life.h"
#include "daemon/log.h"
#include "daemon/namehash.h"
#include "daemon/opaque.h"
#include "daemon/replay.h"
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

/*
 * No daemon has stored two of one name, and systemd could not drop one of them alone: the second is
 * left to it.
 */
static void refuse_end(int fd, const char *name)
{
	log_error(NULL,
		  "descriptor %s from systemd has the name of another: it is not looked into, and "
		  "stays in the fd store until that one is released",
		  name);
	worker_close(&fd, 1);
}

static void add_end(GHashTable *journals, int fd, const char *name)
{
	char *base = g_strndup(name, strlen(name) - 2);
	struct ends *ends = g_hash_table_lookup(journals, base);
	int *end;

	if (!ends) {
		ends = g_new(struct ends, 1);
		*ends = (struct ends){-1, -1};
		g_hash_table_insert(journals, base, ends);
	} else {
		g_free(base);
	}
	end = g_str_has_suffix(name, "-r") ? &ends->receive : &ends->send;
	if (*end >= 0)
		refuse_end(fd, name);
	else
		*end = fd;
}

/* All journals that there are of one session. */
struct group {
	char *name; /* NULL: nothing tells whose it is, so that there is one */
	uid_t uid;
	GPtrArray *journals;
	size_t in_flight; /* descriptors in them */
};

static void group_free(gpointer data)
{
	struct group *group = data;

	g_ptr_array_unref(group->journals);
	g_free(group->name);
	g_free(group);
}

/* groups: by "uid/name" */
static void group_add(GHashTable *groups, struct journal *journal)
{
	g_autofree char *name = NULL, *key = NULL;
	struct group *group;
	uid_t uid = 0;

	record_whose(journal, &name, &uid);
	key = name ? g_strdup_printf("%u/%s", uid, name) : g_strdup(journal->name);
	group = g_hash_table_lookup(groups, key);
	if (!group) {
		group = g_new(struct group, 1);
		*group = (struct group){g_steal_pointer(&name), uid, g_ptr_array_new(), 0};
		g_hash_table_insert(groups, g_steal_pointer(&key), group);
	}
	g_ptr_array_add(group->journals, journal);
	group->in_flight += journal_in_flight(journal);
}

/*
 * Root's first, then those with few descriptors: if they do not all find room, it is the users that
 * have filled it who must wait.
 */
static gint compare_groups(gconstpointer a, gconstpointer b)
{
	const struct group *x = a, *y = b;

	if ((x->uid == 0) != (y->uid == 0))
		return x->uid == 0 ? -1 : 1;
	return x->in_flight < y->in_flight ? -1 : x->in_flight > y->in_flight;
}

/* What is used, and what is not */

static bool is_usable(const struct session *session)
{
	return session && session->state != SESSION_UNREADABLE;
}

static bool is_copy_of(const struct session *session, uid_t uid, const char *name)
{
	return session->state == SESSION_UNREADABLE && session->uid == uid &&
	       g_strcmp0(session->copy_of, name) == 0;
}

/* The names of those that stand aside, to g_free(); NULL: there is none. */
static char *list_copies(const struct session *session)
{
	GString *names = g_string_new(NULL);
	GHashTableIter iter;
	gpointer item;

	g_hash_table_iter_init(&iter, session->server->sessions);
	while (g_hash_table_iter_next(&iter, &item, NULL))
		if (is_copy_of(item, session->uid, session->name))
			g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "",
					       ((struct session *)item)->name);
	return g_string_free(names, names->len == 0);
}

/* What whoever looks at the session has to be told of it. */
static void note_found(struct session *session)
{
	g_autofree char *opaque = opaque_list_describe(session->opaque);
	g_autofree char *names = list_copies(session), *copies = NULL;

	if (names)
		copies = g_strdup_printf(
			"there is another copy of it, kept aside as %s, which can be released, or is "
			"used in its place when this one is released",
			names);
	g_free(session->problem);
	session->problem = opaque && copies ? g_strconcat(opaque, "; ", copies, NULL)
					    : g_strdup(opaque ? opaque : copies);
}

static void put_session(struct server *server, struct copy *copy)
{
	struct journal *journal = copy->journal;
	g_autofree char *opaque = NULL;
	struct session *session;

	if (journal->receive >= 0)
		worker_close(&journal->receive, 1);
	journal->receive = -1;
	session = session_recover(server, &copy->replay, journal);
	opaque = opaque_list_describe(session->opaque);
	if (opaque)
		log_error(session, "session %s: %s", session->name, opaque);
	if (journal->send < 0 && !session->busy)
		keep_anew(session);
	else
		keep_recovered(session);
}

/* No name of a session has such a sign in it, so nobody can have made one of that name. */
static char *name_aside(const struct server *server, const struct copy *copy)
{
	const char *of = copy->replay.name, *unique = copy->journal->name + strlen(JOURNAL_PREFIX);
	GString *name = g_string_new(of ? of : copy->journal->name);

	if (of && server_find_session(server, copy->replay.uid, of))
		g_string_append_printf(name, "#%.16s", unique);
	while (server_find_session(server, copy->replay.uid, name->str))
		g_string_append_c(name, '#');
	return g_string_free(name, FALSE);
}

static void put_aside(struct server *server, const struct copy *copy)
{
	g_autofree char *name = name_aside(server, copy);

	log_error(NULL, "journal %s is kept aside, as session %s of uid %u: %s",
		  copy->journal->name, name, copy->replay.uid, copy->problem);
	keep_recovered(session_unreadable(server, name, copy->replay.uid, copy->replay.name,
					  copy->journal, copy->problem));
}

/* A choice was made, or has come out otherwise than before. */
static void tell_used(const struct copy *copy, guint others)
{
	g_autofree char *description = copy_describe(copy);

	log_warning(NULL, "session %s of uid %u: journal %s (%s) is used; %u more %s kept aside",
		    copy->replay.name, copy->replay.uid, copy->journal->name, description, others,
		    others == 1 ? "is" : "are");
}

static void put_copies(struct server *server, GPtrArray *copies, bool again)
{
	for (guint i = 0; i < copies->len; i++) {
		struct copy *copy = g_ptr_array_index(copies, i);
		const struct session *used =
			copy->replay.name
				? server_find_session(server, copy->replay.uid, copy->replay.name)
				: NULL;

		if (!copy->problem && used)
			copy->problem =
				g_strdup_printf("session %s is another: release that to use "
						"this, or release this",
						used->name);
		if (!copy->problem && (again || copies->len > 1))
			tell_used(copy, copies->len - 1);
		if (copy->problem)
			put_aside(server, copy);
		else
			put_session(server, copy);
	}
}

static void settle_group(struct server *server, const struct group *group, bool again)
{
	g_autoptr(GPtrArray) copies = g_ptr_array_new_with_free_func((GDestroyNotify)copy_free);
	struct session *session;

	for (guint i = 0; i < group->journals->len; i++)
		g_ptr_array_add(copies, copy_read(g_ptr_array_index(group->journals, i)));
	copies_judge(copies);
	put_copies(server, copies, again);
	session = group->name ? server_find_session(server, group->uid, group->name) : NULL;
	if (is_usable(session))
		note_found(session);
}

static void settle_groups(struct server *server, GHashTable *groups, bool again)
{
	g_autoptr(GList) list = g_list_sort(g_hash_table_get_values(groups), compare_groups);

	for (GList *item = list; item; item = item->next)
		settle_group(server, item->data, again);
}

static GHashTable *groups_new(void)
{
	return g_hash_table_new_full(namehash, g_str_equal, g_free, group_free);
}

/* Again */

/* Its journal, without the session that stood for it; NULL: it is being released. */
static struct journal *take_back(struct session *session)
{
	struct journal *journal = session->busy ? NULL : g_steal_pointer(&session->journal);

	if (!journal)
		return NULL;
	server_remove_session(session->server, session);
	session_free(session);
	return journal;
}

/* All that stands aside for that session; name NULL: for any. */
static void settle_again(struct server *server, uid_t uid, const char *name)
{
	g_autoptr(GHashTable) groups = groups_new();
	g_autoptr(GList) sessions = g_hash_table_get_keys(server->sessions);

	for (GList *item = sessions; item; item = item->next) {
		struct session *session = item->data;
		struct journal *journal = session->journal;

		if (session->state != SESSION_UNREADABLE || !journal || journal->foreign ||
		    (name && !is_copy_of(session, uid, name)))
			continue;
		journal = take_back(session);
		if (journal)
			group_add(groups, journal);
	}
	settle_groups(server, groups, true);
}

void recovery_again(struct server *server)
{
	settle_again(server, 0, NULL);
}

static void on_released(struct server *server, uid_t uid, const char *name)
{
	struct session *session = server_find_session(server, uid, name);

	if (is_usable(session))
		note_found(session); /* one of the others is gone */
	else
		settle_again(server, uid, name);
}

/* At the start */

static void read_journals(struct server *server, GHashTable *journals)
{
	g_autoptr(GHashTable) groups = groups_new();
	GHashTableIter iter;
	gpointer name, value;

	g_hash_table_iter_init(&iter, journals);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		const struct ends *ends = value;
		struct journal *journal = journal_found(name, ends->receive, ends->send);

		if (ends->receive >= 0) {
			group_add(groups, journal);
			continue;
		}
		log_notice(
			NULL,
			"journal %s is dropped: what is left of it is the sending end, which holds "
			"nothing; the last daemon ended while it dropped the journal",
			journal->name);
		keep_drop(journal);
	}
	settle_groups(server, groups, false);
}

static void keep_aside(struct server *server, int fd, const char *fd_name)
{
	g_autofree char *name = g_strdup_printf("%s#%d", fd_name, fd);

	fdstore_take(fd_name);
	log_error(NULL, "descriptor %s from systemd is no journal: kept aside, as session %s",
		  fd_name, name);
	session_unreadable(server, name, 0, NULL, journal_foreign(fd_name, fd),
			   "it is no journal of vfio-cprd");
}

int recovery_run(struct server *server)
{
	g_autoptr(GHashTable)
		journals = g_hash_table_new_full(namehash, g_str_equal, g_free, g_free);
	g_autofree char *held = NULL;
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names), listeners = 0;

	server->released = on_released;
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
