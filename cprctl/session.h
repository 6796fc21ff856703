/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The SessionInfo of the wire, as vfio-cprctl tells it. */
#ifndef CPRCTL_SESSION_H
#define CPRCTL_SESSION_H

#include <jansson.h>
#include <stdint.h>

/*
 * A session for --json: as on the wire, but objects are an OBJECT of counts by kind, and what may
 * be left out on the wire is there as null. A new reference.
 */
json_t *session_json(const json_t *session);

/* All held descriptors. */
int64_t session_count(const json_t *session);

/* Held descriptors of one kind. */
int64_t session_count_kind(const json_t *session, const char *kind);

/* "2 devices, 12 eventfds", or "nothing"; the caller's to g_free(). */
char *session_objects(const json_t *session);

/* "1234 (vm1.service)", "1234", or "-"; the caller's to g_free(). */
char *session_holder(const json_t *session);

#endif
