/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who has had how much of what is limited in rate: daemon/bucket.h. */
#include "daemon/bucket.h"

#define USERS_MAX 256 /* with a bucket of their own */

struct sweep {
	gint64 now;
	unsigned int lost;
};

static gboolean is_full(gpointer uid, gpointer value, gpointer data)
{
	const struct bucket *bucket = value;
	struct sweep *sweep = data;

	(void)uid;
	if (bucket->full_at > sweep->now)
		return FALSE;
	sweep->lost += bucket->lost;
	return TRUE;
}

static void forget_full(struct buckets *buckets, gint64 now)
{
	struct sweep sweep = {.now = now};

	g_hash_table_foreach_remove(buckets->by_uid, is_full, &sweep);
	buckets->shared.lost += sweep.lost;
}

struct bucket *buckets_find(struct buckets *buckets, uid_t uid, gint64 now)
{
	gpointer key = GUINT_TO_POINTER(uid);
	struct bucket *bucket;

	if (!buckets->by_uid)
		buckets->by_uid = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	bucket = g_hash_table_lookup(buckets->by_uid, key);
	if (bucket)
		return bucket;
	if (g_hash_table_size(buckets->by_uid) >= USERS_MAX)
		forget_full(buckets, now);
	if (g_hash_table_size(buckets->by_uid) >= USERS_MAX)
		return &buckets->shared;
	bucket = g_new0(struct bucket, 1);
	g_hash_table_insert(buckets->by_uid, key, bucket);
	return bucket;
}

gint64 bucket_wait(const struct bucket *bucket, const struct bucket_rate *rate, gint64 now,
		   gint64 *ret_full_at)
{
	*ret_full_at = MAX(bucket->full_at, now) + rate->interval;
	return MAX(*ret_full_at - now - (gint64)rate->burst * rate->interval, 0);
}
