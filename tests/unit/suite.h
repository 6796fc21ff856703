/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A unit test program of one suite, whose tests run each in a process of its own:
 *
 *	SUITE("table", setup, teardown)
 *	{
 *		tcase_add_test(tests, a_sentence_that_holds);
 *	}
 */
#ifndef TESTS_UNIT_SUITE_H
#define TESTS_UNIT_SUITE_H

#include <check.h>
#include <stdio.h>

static inline int suite_run(const char *name, SFun setup, SFun teardown, void (*add)(TCase *tests))
{
	Suite *suite = suite_create(name);
	TCase *tests = tcase_create(name);
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tests, setup, teardown);
	add(tests);
	suite_add_tcase(suite, tests);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}

/* What a test calls, and then returns, where it cannot be run: check.sh counts it, and prints why. */
#define suite_skip(reason) fprintf(stderr, "SKIP %s: %s\n", __func__, reason)

/* setup and teardown run around each test, and may be NULL. */
#define SUITE(name, setup, teardown)                                      \
	static void suite_add_tests(TCase *tests);                        \
	int main(void)                                                    \
	{                                                                 \
		return suite_run(name, setup, teardown, suite_add_tests); \
	}                                                                 \
	static void suite_add_tests(TCase *tests)

#endif
