/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one place where the version stands; the Makefile reads it from here. */
#ifndef COMMON_VERSION_H
#define COMMON_VERSION_H

#define VFIO_CPRD_VERSION "0.1.0"

#endif
