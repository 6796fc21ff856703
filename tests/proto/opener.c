/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opens the library's default socket, for test_secure.py, and tells whether it has more rights. */
#include <stdio.h>
#include <sys/auxv.h>
#include <vfio-cpr.h>

int main(void)
{
	struct vfio_cpr *cpr = NULL;
	int r = vfio_cpr_open(NULL, 0, &cpr);

	printf("%s: %s\n", getauxval(AT_SECURE) ? "secure" : "plain",
	       r == 0 ? "opened" : vfio_cpr_strerror(cpr));
	vfio_cpr_close(cpr);
	return 0;
}
