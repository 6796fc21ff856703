/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The SessionInfo of the wire, as vfio-cprctl tells it. */
#ifndef CPRCTL_SESSION_H
#define CPRCTL_SESSION_H

#include <jansson.h>
#include <stdbool.h>
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

/* The systemd unit of its holder or, of an orphan, of its last one; "" if none is known. */
const char *session_unit(const json_t *session);

/* Whether it may have devices that the daemon does not tell: one of before 0.2.0, or unreadable. */
bool session_hides_devices(const json_t *session);

bool session_has_device(const json_t *session, const char *address);

/*
 * The PCI addresses of its devices: at most max of them, and "+N" for the rest. "" if it has none,
 * "?" if that is hidden; the caller's to g_free().
 */
char *session_devices_text(const json_t *session, size_t max, const char *separator);

/* "1234 (vm1.service)", "1234", or "-"; the caller's to g_free(). */
char *session_holder(const json_t *session);

#endif
