/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bucket for each user who causes something that is limited in rate: so many at once, then one in
 * each interval. There are so many buckets and no more, as one user can be many (subuid).
 */
#ifndef DAEMON_BUCKET_H
#define DAEMON_BUCKET_H

#include <glib.h>
#include <sys/types.h>

struct bucket {
	gint64 full_at;	   /* when a burst may be had again, if none is till then */
	unsigned int lost; /* the owner's: of what was refused, what has not been told */
};

struct buckets {
	GHashTable *by_uid;   /* made when first needed */
	struct bucket shared; /* of all users beyond those who have one */
};

/* How much at once, and then one in that time: in microseconds, as all times here. */
struct bucket_rate {
	unsigned int burst;
	gint64 interval;
};

/*
 * The bucket of that user. Buckets that are full again are another's when all are in use. What those
 * have lost is the shared one's, so that who lost some and causes no more keeps no bucket for ever.
 */
struct bucket *buckets_find(struct buckets *buckets, uid_t uid, gint64 now);

/* How long the next one has to wait; *ret_full_at: what full_at is to be if that is had then. */
gint64 bucket_wait(const struct bucket *bucket, const struct bucket_rate *rate, gint64 now,
		   gint64 *ret_full_at);

#endif
