/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a tally: daemon/tally.h. */
#include "daemon/tally.h"

struct tally *tally_new(int table)
{
	struct tally *tally = g_new(struct tally, 1);

	*tally = (struct tally){.references = 1, .table = table};
	return tally;
}

struct tally *tally_ref(struct tally *tally)
{
	tally->references++;
	return tally;
}

void tally_unref(struct tally *tally)
{
	if (--tally->references == 0)
		g_free(tally);
}

void tally_end(struct tally *tally)
{
	if (!tally)
		return;
	tally->table = -1;
	tally_unref(tally);
}
