/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "cprctl/pci-address.h"
#include "tests/unit/suite.h"

START_TEST(an_address_is_completed_as_sysfs_writes_it)
{
	static const char *const pairs[][2] = {
		{"3b:00.0", "0000:3b:00.0"},	       {"0000:3b:00.0", "0000:3b:00.0"},
		{"3B:00.0", "0000:3b:00.0"},	       {"0000:3B:1F.7", "0000:3b:1f.7"},
		{"ABCD:ff:1f.7", "abcd:ff:1f.7"},      {"10000:01:00.0", "10000:01:00.0"},
		{"00010000:01:00.0", "10000:01:00.0"},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
		g_autofree char *full = pci_address_complete(pairs[i][0]);

		ck_assert_str_eq(full, pairs[i][1]);
	}
}
END_TEST

START_TEST(what_only_looks_like_an_address_is_none)
{
	static const char *const names[] = {
		"",
		"vm1",
		"3b:00",
		"3b:00.",
		"3b:00.8",
		"3b:20.0",
		"b:00.0",
		"3b:0.0",
		"03b:00.0",
		"3b:00.00",
		"3b:00.0 ",
		" 3b:00.0",
		":3b:00.0",
		"000:3b:00.0",
		"0x00:3b:00.0",
		"0:3b:00.0",
		"000000000:3b:00.0",
		"0000:3b:00.0:0",
		"0:0000:3b:00.0",
		"+3b:00.0",
		"0000:3b:00:0",
		"0000.3b.00.0",
		"3b-00.0",
		"3b:00.0\n",
		"3g:00.0",
		"0000::3b:00.0",
		"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *full = pci_address_complete(names[i]);

		ck_assert_msg(!full, "\"%s\" became %s", names[i], full);
	}
}
END_TEST

SUITE("pci-address", NULL, NULL)
{
	tcase_add_test(tests, an_address_is_completed_as_sysfs_writes_it);
	tcase_add_test(tests, what_only_looks_like_an_address_is_none);
}
