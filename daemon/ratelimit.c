/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A line that would have to wait is lost, and counted: daemon/ratelimit.h. */
#include "daemon/ratelimit.h"

#include "daemon/bucket.h"

static const struct bucket_rate rate = {.burst = 10, .interval = G_USEC_PER_SEC};
static struct buckets buckets;

bool ratelimit_allows(uid_t uid, gint64 now, unsigned int *ret_lost)
{
	struct bucket *bucket = buckets_find(&buckets, uid, now);
	gint64 full_at;

	if (bucket_wait(bucket, &rate, now, &full_at) > 0) {
		bucket->lost++;
		return false;
	}
	bucket->full_at = full_at;
	*ret_lost = bucket->lost;
	bucket->lost = 0;
	return true;
}
