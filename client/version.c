/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which library a program runs with: the header that it was built with may be another one's. */
#include "client/cpr.h"

const char *vfio_cpr_version(void)
{
	return VFIO_CPR_VERSION;
}
