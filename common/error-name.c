/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The errors that the daemon answers with: common/error-name.h. */
#include "common/error-name.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
	const char *name;
	int error;
} errors[] = {
	{"Busy", -EBUSY},
	{"NoSuchSession", -ENOENT},
	{"NoSuchObject", -ENOENT},
	{"AlreadyExists", -EEXIST},
	{"Refused", -EINVAL},
	{"NotHolder", -EACCES},
	{"BadState", -EINVAL},
	{"QuotaExceeded", -EDQUOT},
	{"DescriptorsLost", -EMFILE},
	{"ProtocolViolation", -EPROTO},
	{"KernelFailure", -EIO},
	{"PermissionDenied", -EACCES},
};

int error_name_to_errno(const char *name)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(errors[i].name, name) == 0)
			return errors[i].error;
	return 0;
}
