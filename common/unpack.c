/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What json_unpack() has refused: common/unpack.h. */
#include "common/unpack.h"

#include <glib.h>
#include <string.h>

/* jansson's text ends in ": FIELD", or in a list of fields with the unknown one first. */
static char *field_of(const json_error_t *error)
{
	const char *name = strstr(error->text, ": ");

	return name ? g_strndup(name + 2, strcspn(name + 2, ",")) : NULL;
}

char *unpack_explain(const json_error_t *error, char **ret_field)
{
	enum json_error_code code = json_error_code(error);

	*ret_field = NULL;
	if (code == json_error_end_of_input_expected)
		*ret_field = field_of(error);
	if (*ret_field)
		return g_strdup_printf("%s is not known here", *ret_field);
	if (code == json_error_item_not_found)
		*ret_field = field_of(error);
	if (*ret_field)
		return g_strdup_printf("%s is missing", *ret_field);
	return g_strdup_printf("a value is of the wrong type: %s", error->text);
}
