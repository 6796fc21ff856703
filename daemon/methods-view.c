/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an onlooker asks of all sessions: Monitor and Status. List, Show and Mappings have files. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "common/version.h"
#include "daemon/account.h"
#include "daemon/life.h"
#include "daemon/methods.h"
#include "daemon/monitor.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define POLL_AT_ONCE 1024 /* no more than RLIMIT_NOFILE, or poll() refuses */

/* Those of `sessions` whose holder's pidfd is readable. */
static void notice_some(struct session **sessions, guint n)
{
	struct pollfd polls[POLL_AT_ONCE];

	for (guint i = 0; i < n; i++)
		polls[i] = (struct pollfd){sessions[i]->holder.pidfd, POLLIN, 0};
	if (poll(polls, n, 0) <= 0)
		return;
	for (guint i = 0; i < n; i++)
		if (polls[i].revents && !sessions[i]->busy)
			session_holder_lives(sessions[i]);
}

void method_notice_deaths(const struct server *server)
{
	guint n;
	g_autofree gpointer *sessions = g_hash_table_get_keys_as_array(server->sessions, &n);

	for (guint first = 0; first < n; first += POLL_AT_ONCE)
		notice_some((struct session **)sessions + first, MIN(n - first, POLL_AT_ONCE));
}

void method_monitor(struct peer *peer)
{
	g_autofree char *quota = NULL;
	const char *name = NULL;
	json_t *owner = NULL;
	uid_t uid = peer->uid;

	if (!method_unpack(peer, "{s?s, s?o !}", "name", &name, "uid", &owner))
		return;
	if (!peer->call.more || peer->call.oneway) {
		peer_fail_service(peer, "ExpectedMore", json_object());
		return;
	}
	if (!method_owner(peer, owner, &uid))
		return;
	quota = account_refuse_monitor(peer->account);
	if (quota) {
		peer_fail(peer, "QuotaExceeded", EDQUOT, "%s", quota);
		return;
	}
	if (name && !*name) {
		peer_invalid(peer, "name", "no session has an empty name: leave it out for all");
		return;
	}
	peer->monitored_name = g_strdup(name);
	peer->monitored_uid = uid;
	method_notice_deaths(peer->server);
	if (peer->socket >= 0) /* else it was the connection of one who died, used by another */
		monitor_begin(peer);
}

void method_status(struct peer *peer)
{
	const struct server *server = peer->server;
	g_autofree char *warning = server_warning(server, peer->uid);

	if (!method_unpack(peer, "{!}"))
		return;
	method_notice_deaths(server);
	peer_reply(peer,
		   json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:b, s:s*}", "version",
			     VFIO_CPRD_VERSION, "pid", (int)getpid(), "sessions",
			     (json_int_t)g_hash_table_size(server->sessions), "orphans",
			     (json_int_t)server_orphans(server), "descriptors",
			     (json_int_t)server_descriptors(server), "descriptorLimit",
			     (json_int_t)server->descriptor_limit, "survivesRestart",
			     !server_loss(server), "warning", warning),
		   NULL, 0);
}
