/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who waits for how long is told by buckets, of each user and of all: daemon/pace.h. */
#include "daemon/pace.h"

#include "daemon/bucket.h"

#define BURST	      64
#define INTERVAL_USEC (G_USEC_PER_SEC / 16)
#define QUEUE_USEC    (4 * G_USEC_PER_SEC) /* as far ahead as places are given; some are given up */
#define ALL_TIMES \
	8 /* so much of it for all users but root together: one user can be many (subuid) */

static const struct bucket_rate rate_of_user = {BURST, INTERVAL_USEC};
static const struct bucket_rate rate_of_all = {BURST * ALL_TIMES, INTERVAL_USEC / ALL_TIMES};

static struct buckets buckets;
static struct bucket all; /* of all users but root, besides their own */

gint64 pace_next(uid_t uid, gint64 now, bool *ret_taken)
{
	gint64 full_at, all_full_at, wait, wait_of_all;
	struct bucket *bucket;

	*ret_taken = true;
	if (uid == 0)
		return 0;
	bucket = buckets_find(&buckets, uid, now);
	wait = bucket_wait(bucket, &rate_of_user, now, &full_at);
	wait_of_all = bucket_wait(&all, &rate_of_all, now, &all_full_at);
	wait = MAX(wait, wait_of_all);
	*ret_taken = wait <= QUEUE_USEC;
	if (*ret_taken) {
		bucket->full_at = full_at;
		all.full_at = all_full_at;
	}
	return MIN(wait, QUEUE_USEC);
}
