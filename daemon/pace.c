/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bucket for each user that makes PID 1 work: daemon/pace.h. */
#include "daemon/pace.h"

#define BURST	      64		    /* at once */
#define INTERVAL_USEC (G_USEC_PER_SEC / 16) /* and then one in that time */
#define QUEUE_USEC    (4 * G_USEC_PER_SEC) /* as far ahead as places are given; some are given up */
#define ALL_TIMES \
	8 /* so much of it for all users but root together: one user can be many (subuid) */
#define USERS_MAX 256 /* with a bucket of their own */

static GHashTable *buckets; /* by uid: when BURST at once may be had again, if none is till then */
static gint64 shared;	    /* of all users beyond USERS_MAX */
static gint64 all;	    /* of all users but root, besides their own */

static gboolean is_full(gpointer uid, gpointer bucket, gpointer now)
{
	(void)uid;
	return *(gint64 *)bucket <= *(const gint64 *)now;
}

static gint64 *bucket_of(uid_t uid, gint64 now)
{
	gpointer key = GUINT_TO_POINTER(uid);
	gint64 *bucket;

	if (!buckets)
		buckets = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	bucket = g_hash_table_lookup(buckets, key);
	if (bucket)
		return bucket;
	if (g_hash_table_size(buckets) >= USERS_MAX)
		g_hash_table_foreach_remove(buckets, is_full, &now);
	if (g_hash_table_size(buckets) >= USERS_MAX)
		return &shared;
	bucket = g_new0(gint64, 1);
	g_hash_table_insert(buckets, key, bucket);
	return bucket;
}

/* When the bucket is full again after one more; *ret_wait: when that one can be had. */
static gint64 after_one(gint64 full_at, gint64 now, gint64 interval, unsigned int burst,
			gint64 *ret_wait)
{
	gint64 next = MAX(full_at, now) + interval;

	*ret_wait = MAX(next - now - (gint64)burst * interval, 0);
	return next;
}

gint64 pace_next(uid_t uid, gint64 now, bool *ret_taken)
{
	gint64 *full_at, next, next_of_all, wait, wait_of_all;

	*ret_taken = true;
	if (uid == 0)
		return 0;
	full_at = bucket_of(uid, now);
	next = after_one(*full_at, now, INTERVAL_USEC, BURST, &wait);
	next_of_all =
		after_one(all, now, INTERVAL_USEC / ALL_TIMES, BURST * ALL_TIMES, &wait_of_all);
	wait = MAX(wait, wait_of_all);
	*ret_taken = wait <= QUEUE_USEC;
	if (*ret_taken) {
		*full_at = next;
		all = next_of_all;
	}
	return MIN(wait, QUEUE_USEC);
}
