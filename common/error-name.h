/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The errors that the daemon answers with, and the errno that each is for who calls the library. */
#ifndef VFIO_CPR_COMMON_ERROR_NAME_H
#define VFIO_CPR_COMMON_ERROR_NAME_H

/*
 * name: without its interface. Of io.vfiocpr.Session each, of org.varlink.service those that have an
 * errno of their own. Returns -errno, or 0 for a name that is none of them.
 */
int error_name_to_errno(const char *name);

#endif
