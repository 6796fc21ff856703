/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every part of the library stands on: the sentence of the last failure, and whether a call
 * may go on. Calls nothing of the library itself.
 */
#include "client/cpr.h"

#include <errno.h>
#include <stdarg.h>

#include "common/object.h"

int cpr_fail(struct vfio_cpr *cpr, int error, const char *format, ...)
{
	/* Formatted apart: an argument may be the present sentence. */
	g_autofree char *sentence = NULL;
	va_list ap;

	va_start(ap, format);
	sentence = g_strdup_vprintf(format, ap);
	va_end(ap);
	g_string_assign(cpr->error, sentence);
	return error;
}

int cpr_check_slow(struct vfio_cpr *cpr)
{
	if (!*cpr->own_process)
		return cpr_fail(cpr, -ECHILD,
				"this handle belongs to the parent process: a child may only close "
				"it, and open its own");
	if (cpr->is_released)
		return cpr_fail(cpr, -ENOENT,
				"the session %s was released: nothing is held any more; close this "
				"handle and attach anew",
				cpr->session ? cpr->session : "of this handle");
	return cpr_fail(cpr, -EINVAL, "this handle has no session: call vfio_cpr_attach() first");
}

int cpr_check_name(struct vfio_cpr *cpr, const char *what, const char *name)
{
	if (!name || !object_name_is_valid(name))
		return cpr_fail(cpr, -EINVAL,
				"a name of %s is 1 to %d bytes of UTF-8 without control characters",
				what, OBJECT_NAME_MAX);
	return 0;
}

const char *vfio_cpr_strerror(const struct vfio_cpr *cpr)
{
	return cpr->error->str;
}
