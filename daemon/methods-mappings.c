/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mappings: a page of an address space's table. A thread reads it, as an errand of the session's
 * owner, from a descriptor of its own; meanwhile the session may change or end.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "daemon/errand.h"
#include "daemon/methods.h"
#include "daemon/peer.h"
#include "daemon/session-json.h"
#include "daemon/session.h"
#include "daemon/tableread.h"

#define MAPPINGS_PER_ANSWER 1000
#define SLOTS_PER_ANSWER    16384 /* free ones, and those that are no mappings, too */
#define MAPPINGS_OF_TURN    32

struct reading {
	struct peer *peer; /* referenced */
	int table;	   /* a descriptor of its own */
	uint32_t cursor;
	struct table_slot slots[MAPPINGS_PER_ANSWER];
	uint32_t at[MAPPINGS_PER_ANSWER]; /* their numbers in the table */
	size_t n;
	uint32_t next; /* 0: that was all */
	size_t told;
	GString *text; /* of those */
};

static void read_in_thread(void *data)
{
	struct reading *reading = data;
	uint32_t end = reading->cursor + SLOTS_PER_ANSWER;
	struct table_reader reader;
	int r = table_reader_begin(&reader, reading->table);

	reader.next = reading->cursor;
	while (r >= 0 && reading->n < MAPPINGS_PER_ANSWER &&
	       (r = table_reader_next(&reader, end, &reading->slots[reading->n])) > 0)
		reading->at[reading->n++] = reader.next - 1;
	if (r >= 0 && reader.next < reader.used)
		reading->next = reader.next;
	close(reading->table);
}

static bool is_told(const struct reading *reading)
{
	return reading->told == reading->n || reading->text->len >= METHOD_PAGE_BYTES;
}

/* One turn's part of the page. */
static void tell_some(const struct session *session, struct reading *reading)
{
	for (int i = 0; i < MAPPINGS_OF_TURN && !is_told(reading); i++)
		method_add(reading->text,
			   mapping_to_json(session, &reading->slots[reading->told++]));
}

static void reply(struct peer *peer, const struct reading *reading)
{
	g_autoptr(GString) text = g_string_new("{");

	method_add_array(text, "mappings", reading->text);
	method_add_next(text,
			reading->told < reading->n ? reading->at[reading->told] : reading->next);
	peer_reply_text(peer, text->str);
}

/* The table that is meant, and its session. NULL: an error has been answered. */
static const struct object *find(struct peer *peer, struct session **ret_session,
				 json_int_t *ret_cursor)
{
	const char *name, *space;
	json_t *owner = NULL;
	const struct object *table;

	*ret_cursor = 0;
	if (!method_unpack(peer, "{s:s, s?o, s:s, s?I !}", "name", &name, "uid", &owner, "space",
			   &space, "cursor", ret_cursor))
		return NULL;
	*ret_session = method_find_session(peer, name, owner);
	if (!*ret_session)
		return NULL;
	table = object_set_find(&(*ret_session)->objects, OBJECT_TABLE, space);
	if (table && *ret_cursor >= 0)
		return table;
	peer_fail(peer, "NoSuchObject", 0, "session %s has no address space %s (at %" PRId64 ")",
		  name, space, (int64_t)*ret_cursor);
	return NULL;
}

static void free_reading(void *state)
{
	struct reading *reading = state;

	g_string_free(reading->text, TRUE);
	g_free(reading);
}

static void mappings_on(struct peer *peer)
{
	struct reading *reading = peer->call.state;
	struct session *session;
	json_int_t cursor;

	if (!find(peer, &session, &cursor))
		return;
	tell_some(session, reading);
	if (is_told(reading)) {
		reply(peer, reading);
		return;
	}
	peer->call.then = mappings_on;
	peer_go_on_in_turn(peer);
}

static void reading_done(void *data)
{
	struct reading *reading = data;
	struct peer *peer = reading->peer;

	if (peer->socket >= 0) {
		peer->call.state = reading;
		peer->call.free_state = free_reading;
		peer->call.then = mappings_on;
		peer_go_on_in_turn(peer);
	} else {
		free_reading(reading);
	}
	peer_unref(peer);
}

void method_mappings(struct peer *peer)
{
	struct session *session;
	json_int_t cursor;
	const struct object *table = find(peer, &session, &cursor);
	struct reading *reading;
	int fd;

	if (!table)
		return;
	fd = fcntl(g_array_index(table->fds, int, 0), F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		peer_fail(peer, "KernelFailure", errno,
			  "the mappings cannot be read for now, as the daemon is short of "
			  "descriptors: %s. Try again",
			  g_strerror(errno));
		return;
	}
	reading = g_new0(struct reading, 1);
	reading->peer = peer_ref(peer);
	reading->table = fd;
	reading->text = g_string_new(NULL);
	reading->cursor = MIN(cursor, TABLE_MAX_SLOTS);
	errand_run(session->account, read_in_thread, reading_done, reading);
}
