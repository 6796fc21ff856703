/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interface descriptions, embedded from common/NAME.varlink when building. */
#ifndef COMMON_INTERFACES_H
#define COMMON_INTERFACES_H

extern const char interface_org_varlink_service[];
extern const char interface_io_vfiocpr_session[];

#endif
