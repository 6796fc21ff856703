/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names that stand in the interface description and in the code: they are the same. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "common/error-name.h"
#include "common/interfaces.h"
#include "common/object.h"
#include "common/session-name.h"
#include "tests/unit/suite.h"

/* "a, b" of the interface's line "type NAME (a, b)". */
static char *type_of(const char *name)
{
	g_autofree char *begin = g_strdup_printf("\ntype %s (", name);
	const char *values = strstr(interface_io_vfiocpr_session, begin);

	ck_assert_ptr_nonnull(values);
	values += strlen(begin);
	return g_strndup(values, strcspn(values, ")"));
}

START_TEST(states_are_those_of_the_interface)
{
	g_autofree char *type = type_of("State");
	g_auto(GStrv) names = g_strsplit(type, ", ", -1);

	ck_assert_uint_eq(g_strv_length(names), SESSION_STATES);
	for (int state = 0; state < SESSION_STATES; state++)
		ck_assert_str_eq(session_state_name(state), names[state]);
}
END_TEST

START_TEST(kinds_are_those_of_the_interface)
{
	g_autofree char *type = type_of("Kind");
	g_auto(GStrv) names = g_strsplit(type, ", ", -1);

	ck_assert_uint_eq(g_strv_length(names), OBJECT_KINDS);
	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		ck_assert_str_eq(object_kind_name(kind), names[kind]);
}
END_TEST

START_TEST(each_error_of_the_interface_has_an_errno)
{
	g_auto(GStrv) lines = g_strsplit(interface_io_vfiocpr_session, "\n", -1);
	int n = 0;

	for (char **line = lines; *line; line++) {
		g_autofree char *name = NULL;

		if (!g_str_has_prefix(*line, "error "))
			continue;
		name = g_strndup(*line + 6, strcspn(*line + 6, " "));
		ck_assert_msg(error_name_to_errno(name) < 0, "%s has none", name);
		n++;
	}
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(error_name_to_errno("Busy"), -EBUSY);
	ck_assert_int_eq(error_name_to_errno("busy"), 0);
	ck_assert_int_eq(error_name_to_errno(""), 0);
}
END_TEST

START_TEST(a_session_has_a_name_that_is_safe_in_a_shell_and_a_file_name)
{
	static const char *const good[] = {"a", "vm-1.x@host:0_", "0"};
	static const char *const bad[] = {"", "a b", "a/b", "a\n", "\xc3\xa4", "a*"};
	char longest[SESSION_NAME_MAX + 2] = {0};

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
		ck_assert_msg(session_name_is_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		ck_assert_msg(!session_name_is_valid(bad[i]), "%s", bad[i]);
	memset(longest, 'x', SESSION_NAME_MAX);
	ck_assert(session_name_is_valid(longest));
	longest[SESSION_NAME_MAX] = 'x';
	ck_assert(!session_name_is_valid(longest));
}
END_TEST

SUITE("names", NULL, NULL)
{
	tcase_add_test(tests, states_are_those_of_the_interface);
	tcase_add_test(tests, kinds_are_those_of_the_interface);
	tcase_add_test(tests, each_error_of_the_interface_has_an_errno);
	tcase_add_test(tests, a_session_has_a_name_that_is_safe_in_a_shell_and_a_file_name);
}
