/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a mapping table had when it was last counted. Counting it is for threads, and its object may
 * be gone meanwhile, so it belongs to whoever has a reference: the object, and who counts. All
 * fields are the loop's.
 */
#ifndef DAEMON_TALLY_H
#define DAEMON_TALLY_H

#include <glib.h>
#include <stdint.h>

struct tally {
	unsigned int references;
	int table; /* the object's descriptor; -1: that is gone */
	uint64_t mappings, bytes;
	uint64_t changes; /* the table's then; 0: it does not tell */
	gint64 counted;	  /* when, CLOCK_MONOTONIC in microseconds; 0: never */
	gint64 current;	  /* when the table was last found to be as counted */
};

struct tally *tally_new(int table);
struct tally *tally_ref(struct tally *tally);
void tally_unref(struct tally *tally);

/* Its object goes. tally may be NULL. */
void tally_end(struct tally *tally);

#endif
