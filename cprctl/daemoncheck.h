/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPRCTL_DAEMONCHECK_H
#define CPRCTL_DAEMONCHECK_H

#include "cprctl/cprctl.h"
#include "cprctl/hostcheck.h"

/*
 * Whether a daemon answers, and its status. What it holds, as an array of SessionInfo with devices;
 * a new reference, or NULL if none answers.
 */
json_t *check_daemon(struct ctl *ctl, Findings *findings);

#endif
