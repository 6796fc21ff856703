/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counters by user, and the limits on them: daemon/account.h. */
#include "daemon/account.h"

#include "common/frame.h"
#include "common/object.h"

/* Limits for each user but root. */
#define SESSIONS_PER_UID    64
#define CONNECTIONS_PER_UID 256
#define MONITORS_PER_UID    32 /* each makes every event of its user dearer */
#define DESCRIPTORS_PER_UID OBJECT_MAX_FDS
#define GAPS_PER_UID	    (4 * OBJECT_MAX_FDS) /* of four bytes each */
#define UNFINISHED_PER_UID  (16 * 1024 * 1024)	 /* bytes */

#define ROOT_SHARE 16 /* of the descriptors that can be held, one of so many is root's alone */

/* Users who hold sessions may have a few connections when strangers have all that there are. */
#define HOLDER_CONNECTIONS 4 /* besides one for each session */
#define HOLDER_RESERVE	   4 /* one of so many */

static GHashTable *accounts;   /* by uid; made when first needed */
static size_t all_descriptors; /* of all users */
static size_t connection_limit = SIZE_MAX / 2;
static size_t others_connections; /* of all users but root */

/*
 * Limits on what is in flight, in parts of all that may be. What sessions hold is limited to half of
 * it (server_new()), and is in their journals; a journal has dead records besides, and is written
 * anew beside the old one. The share of one purpose is no other's: journals last, and answers that
 * had to wait for them would wait for ever.
 */
#define FLIGHT_PARTS	32
#define ANSWER_PART_MIN 128 /* so that the smallest share has room for one message: FRAME_MAX_FDS */
static const struct {
	size_t user, others,
		all; /* that one user may have; all users when it is not root; and root */
} flight_shares[] = {
	[FLIGHT_RECORD] = {16, 20, 24},
	[FLIGHT_CLAIM_RECORD] = {22, 22, 24},
	[FLIGHT_ANSWER] = {2, 4, 8},
	[FLIGHT_CLAIM_ANSWER] = {4, 4, 8},
};
#define CLAIM_RESERVE 2 /* such parts beyond that, for one message to each user who claims */
static size_t flight_limit = SIZE_MAX;
static size_t all_in_flight, all_unread; /* of all users */

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

void account_count_held(struct account *account, ssize_t descriptors, ssize_t gaps)
{
	account_count_descriptors(account, descriptors);
	account->gaps += gaps;
}

void account_limit_flight(size_t limit)
{
	flight_limit = limit;
}

void account_count_in_flight(struct account *account, ssize_t change)
{
	account->in_flight += change;
	all_in_flight += change;
}

void account_count_unread(struct account *account, ssize_t change)
{
	account->unread += change;
	all_unread += change;
}

/* Uids are cheap, and each may claim something and not read: so each has little of the reserve. */
static bool may_use_reserve(size_t own, size_t all, size_t part)
{
	return own <= FRAME_MAX_FDS &&
	       all <= (flight_shares[FLIGHT_CLAIM_ANSWER].others + CLAIM_RESERVE) * part;
}

bool account_may_fly(const struct account *account, size_t n, enum flight purpose)
{
	bool is_answer = purpose == FLIGHT_ANSWER || purpose == FLIGHT_CLAIM_ANSWER;
	size_t own = is_answer ? account->unread : account->in_flight;
	size_t all = is_answer ? all_unread : all_in_flight;
	size_t part = MAX(flight_limit / FLIGHT_PARTS, is_answer ? ANSWER_PART_MIN : 0);

	if (account->uid == 0)
		return all + n <= flight_shares[purpose].all * part;
	if (purpose == FLIGHT_CLAIM_ANSWER && may_use_reserve(own + n, all + n, part))
		return true;
	return own + n <= flight_shares[purpose].user * part &&
	       all + n <= flight_shares[purpose].others * part;
}

char *account_refuse_session(const struct account *account)
{
	if (account->uid == 0 || account->sessions < SESSIONS_PER_UID)
		return NULL;
	return g_strdup_printf("uid %u has %u sessions, as many as it may: release one",
			       account->uid, account->sessions);
}

char *account_refuse_monitor(const struct account *account)
{
	if (account->uid == 0 || account->monitors < MONITORS_PER_UID)
		return NULL;
	return g_strdup_printf("uid %u has %u monitors, as many as it may: end one", account->uid,
			       account->monitors);
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
	if (account->uid != 0 && account->gaps > GAPS_PER_UID)
		return g_strdup_printf(
			"uid %u has %zu gaps in its runs of descriptors and may have %d: number them "
			"one after another",
			account->uid, account->gaps, GAPS_PER_UID);
	if (account->uid != 0)
		limit -= limit / ROOT_SHARE;
	if (all_descriptors > limit)
		return g_strdup_printf(
			"the daemon holds %zu descriptors and can hold %zu%s: raise its "
			"LimitNOFILE, or release a session",
			all_descriptors, limit,
			account->uid != 0 ? " for users other than root" : "");
	return NULL;
}

char *account_refuse_bytes(const struct account *account)
{
	if (account->uid == 0 || account->bytes <= UNFINISHED_PER_UID)
		return NULL;
	return g_strdup_printf("uid %u has sent %zu bytes of messages without an end: end them",
			       account->uid, account->bytes);
}

void account_limit_connections(size_t limit)
{
	connection_limit = limit;
}

void account_count_connections(struct account *account, int change)
{
	account->connections += change;
	if (account->uid != 0)
		others_connections += change;
}

/* Who holds sessions comes back for them, and may be the one whom strangers would keep out. */
static bool is_for_a_session(const struct account *account)
{
	return account->connections < account->sessions + HOLDER_CONNECTIONS &&
	       account->sessions > 0;
}

char *account_refuse_connection(const struct account *account)
{
	size_t reserve = is_for_a_session(account) ? connection_limit / HOLDER_RESERVE : 0;

	if (account->uid == 0)
		return NULL;
	if (account->connections + account->closing >= CONNECTIONS_PER_UID)
		return g_strdup_printf(
			"uid %u has %u connections, and descriptors of %u messages are still being closed",
			account->uid, account->connections, account->closing);
	if (others_connections < connection_limit + reserve)
		return NULL;
	return g_strdup_printf(
		"users other than root have %zu connections, as many as they may: raise "
		"LimitNOFILE of vfio-cprd.service if they should have more",
		others_connections);
}
