/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The hash of names that peers choose: what they choose costs the same as what they do not. */
#include <glib.h>
#include <string.h>

#include "daemon/namehash.h"
#include "tests/unit/suite.h"

#define NAMES 4096

static char names[NAMES][25];
static unsigned int comparisons;

/* To g_str_hash() "Ez" and "FY" are one, and so is all that is made of them. */
static void setup(void)
{
	for (int i = 0; i < NAMES; i++)
		for (int bit = 0; bit < 12; bit++)
			memcpy(names[i] + 2 * (size_t)bit, i >> bit & 1 ? "Ez" : "FY", 2);
	comparisons = 0;
}

static gboolean counting_equal(gconstpointer a, gconstpointer b)
{
	comparisons++;
	return strcmp(a, b) == 0;
}

/* How many comparisons it takes to put the first n names into a table, and to find each. */
static unsigned int cost(GHashFunc hash, int n)
{
	g_autoptr(GHashTable) table = g_hash_table_new(hash, counting_equal);

	comparisons = 0;
	for (int i = 0; i < n; i++)
		g_hash_table_add(table, names[i]);
	for (int i = 0; i < n; i++)
		ck_assert(g_hash_table_contains(table, names[i]));
	ck_assert_uint_eq(g_hash_table_size(table), n);
	return comparisons;
}

START_TEST(names_that_collide_elsewhere_do_not_here)
{
	ck_assert_uint_lt(cost(namehash, NAMES), 2 * NAMES);
	/* The same names, and a hash that everybody knows. */
	ck_assert_uint_gt(cost(g_str_hash, NAMES / 8), 10 * NAMES);
}
END_TEST

START_TEST(a_name_has_one_hash)
{
	char copy[sizeof(names[0])];

	strcpy(copy, names[7]);
	ck_assert_uint_eq(namehash(copy), namehash(names[7]));
	ck_assert_uint_ne(namehash(names[6]), namehash(names[7]));
	ck_assert_uint_ne(namehash(""), namehash("a"));
}
END_TEST

SUITE("namehash", setup, NULL)
{
	tcase_add_test(tests, names_that_collide_elsewhere_do_not_here);
	tcase_add_test(tests, a_name_has_one_hash);
}
