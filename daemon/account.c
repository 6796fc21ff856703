/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counters by user, and the limits on them: daemon/account.h. */
#include "daemon/account.h"

#include "common/object.h"

/* Limits for each user but root. */
#define SESSIONS_PER_UID    64
#define CONNECTIONS_PER_UID 256
#define DESCRIPTORS_PER_UID OBJECT_MAX_FDS
#define UNFINISHED_PER_UID  (16 * 1024 * 1024) /* bytes */

static GHashTable *accounts;   /* by uid; made when first needed */
static size_t all_descriptors; /* of all users */

struct account *account_get(uid_t uid)
{
	struct account *account;

	if (!accounts)
		accounts = g_hash_table_new(NULL, NULL);
	account = g_hash_table_lookup(accounts, GUINT_TO_POINTER(uid));
	if (!account) {
		account = g_new0(struct account, 1);
		account->uid = uid;
		g_hash_table_insert(accounts, GUINT_TO_POINTER(uid), account);
	}
	account->references++;
	return account;
}

void account_put(struct account *account)
{
	if (--account->references > 0)
		return;
	g_hash_table_remove(accounts, GUINT_TO_POINTER(account->uid));
	g_free(account);
}

void account_count_descriptors(struct account *account, ssize_t change)
{
	account->descriptors += change;
	all_descriptors += change;
}

char *account_refuse_session(const struct account *account)
{
	if (account->uid == 0 || account->sessions < SESSIONS_PER_UID)
		return NULL;
	return g_strdup_printf("uid %u has %u sessions, as many as it may: release one",
			       account->uid, account->sessions);
}

char *account_refuse_message(const struct account *account)
{
	if (account->uid == 0 || account->closing < CONNECTIONS_PER_UID)
		return NULL;
	return g_strdup_printf(
		"descriptors that uid %u sent and nobody took are still being closed, those of %u "
		"messages: wait until that is over",
		account->uid, account->closing);
}

char *account_refuse_descriptors(const struct account *account, size_t limit)
{
	if (account->uid != 0 && account->descriptors > DESCRIPTORS_PER_UID)
		return g_strdup_printf(
			"uid %u holds %zu descriptors and may hold %d: release a session",
			account->uid, account->descriptors, DESCRIPTORS_PER_UID);
	if (all_descriptors > limit)
		return g_strdup_printf(
			"the daemon holds %zu descriptors and can hold %zu: raise its "
			"LimitNOFILE, or release a session",
			all_descriptors, limit);
	return NULL;
}

char *account_refuse_bytes(const struct account *account)
{
	if (account->uid == 0 || account->bytes <= UNFINISHED_PER_UID)
		return NULL;
	return g_strdup_printf("uid %u has sent %zu bytes of messages without an end: end them",
			       account->uid, account->bytes);
}

bool account_has_many_connections(const struct account *account)
{
	return account->uid != 0 && account->connections + account->closing > CONNECTIONS_PER_UID;
}
