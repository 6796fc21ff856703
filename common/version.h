/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The version of the whole: that of the public header, where the Makefile reads it too. */
#ifndef COMMON_VERSION_H
#define COMMON_VERSION_H

#include "vfio-cpr.h"

#define VFIO_CPRD_VERSION VFIO_CPR_VERSION

#endif
