/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which session of the daemon holds a device, and what that means for everybody else. */
#ifndef CPRCTL_HOLDER_H
#define CPRCTL_HOLDER_H

#include <jansson.h>

#include "cprctl/access.h"
#include "cprctl/device.h"

/* The session, of an array of SessionInfo whose devices are filled in, that holds device, or NULL. */
const json_t *holder_find(const json_t *sessions, const char *device);

/* "session web1 of uid 0 (orphaned for 6s, vm@web1.service)"; to be freed. */
char *holder_words(const json_t *session);

/* How to make it let go; to be freed. */
char *holder_remedy(const json_t *session);

/* Judges who holds a device. Nothing if no daemon told (scope->sessions is NULL). */
void check_holder(Findings *findings, const struct check_scope *scope, const struct device *device);

#endif
