/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What json_unpack() has refused, told in words of ours. */
#ifndef VFIO_CPR_COMMON_UNPACK_H
#define VFIO_CPR_COMMON_UNPACK_H

#include <jansson.h>

/*
 * What json_unpack() has refused, as a sentence to g_free() that a caller understands. *ret_field,
 * to g_free() too: the field that is wrong; NULL: it does not tell which.
 */
char *unpack_explain(const json_error_t *error, char **ret_field);

#endif
