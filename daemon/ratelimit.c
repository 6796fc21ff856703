/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bucket of lines for each user that causes some: daemon/ratelimit.h. */
#include "daemon/ratelimit.h"

#define BURST	      10	     /* lines at once */
#define INTERVAL_USEC G_USEC_PER_SEC /* and then one in that time */
#define USERS_MAX     256	     /* with a bucket of their own: one user can be many (subuid) */

struct bucket {
	gint64 full_at; /* when BURST lines at once may be told again, if none is till then */
	unsigned int lost;
};

static GHashTable *buckets;  /* by uid */
static struct bucket shared; /* of all users beyond USERS_MAX */

/*
 * Removes a bucket that is full again. The lines that it has lost are told with the shared
 * bucket's, so that a user who lost some and causes no more does not keep a bucket for ever.
 */
static gboolean forget_quiet(gpointer uid, gpointer value, gpointer now)
{
	const struct bucket *bucket = value;

	(void)uid;
	if (bucket->full_at > *(const gint64 *)now)
		return FALSE;
	shared.lost += bucket->lost;
	return TRUE;
}

static struct bucket *bucket_of(uid_t uid, gint64 now)
{
	gpointer key = GUINT_TO_POINTER(uid);
	struct bucket *bucket;

	if (!buckets)
		buckets = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	bucket = g_hash_table_lookup(buckets, key);
	if (bucket)
		return bucket;
	if (g_hash_table_size(buckets) >= USERS_MAX)
		g_hash_table_foreach_remove(buckets, forget_quiet, &now);
	if (g_hash_table_size(buckets) >= USERS_MAX)
		return &shared;
	bucket = g_new0(struct bucket, 1);
	g_hash_table_insert(buckets, key, bucket);
	return bucket;
}

bool ratelimit_allows(uid_t uid, gint64 now, unsigned int *ret_lost)
{
	struct bucket *bucket = bucket_of(uid, now);
	gint64 full_at = MAX(bucket->full_at, now) + INTERVAL_USEC;

	if (full_at > now + (gint64)BURST * INTERVAL_USEC) {
		bucket->lost++;
		return false;
	}
	bucket->full_at = full_at;
	*ret_lost = bucket->lost;
	bucket->lost = 0;
	return true;
}
