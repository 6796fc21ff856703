/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A session, its address spaces and mappings as io.vfiocpr.Session tells of them. Nothing here
 * consumes what is looked at, an interrupt for one.
 */
#ifndef DAEMON_SESSION_JSON_H
#define DAEMON_SESSION_JSON_H

#include <jansson.h>
#include <stdint.h>

struct object;
struct session;
struct table_slot;

/* type SessionInfo, as of the last survey (daemon/survey.h); looks up the unit if nobody has yet. */
json_t *session_to_json(struct session *session);

/* type Space, of its table as last counted (daemon/counting.h) */
json_t *space_to_json(const struct session *session, const struct object *table);

/* type Mapping */
json_t *mapping_to_json(const struct session *session, const struct table_slot *slot);

#endif
