/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading a table piece by piece: daemon/tableread.h. */
#include "daemon/tableread.h"

#include <errno.h>
#include <glib.h>
#include <unistd.h>

int table_reader_begin(struct table_reader *reader, int fd)
{
	struct table_header header;
	int r = table_read_header(fd, &header);

	if (r < 0)
		return r;
	reader->fd = fd;
	reader->slots = header.slots;
	reader->used = MIN(header.used, header.slots);
	reader->changes = header.changes;
	reader->next = reader->first = reader->n = 0;
	return 0;
}

/* Reads the piece that slot `next` is the first of. */
static int read_chunk(struct table_reader *reader)
{
	uint32_t n = MIN(reader->used - reader->next, TABLE_READER_CHUNK);
	ssize_t size = n * sizeof(struct table_slot), got;
	off_t at = sizeof(struct table_header) + (off_t)reader->next * sizeof(struct table_slot);

	do
		got = pread(reader->fd, reader->chunk, size, at);
	while (got < 0 && errno == EINTR);
	if (got != size)
		return got < 0 ? -errno : -EIO;
	reader->first = reader->next;
	reader->n = n;
	return 0;
}

int table_reader_next(struct table_reader *reader, uint32_t end, struct table_slot *ret_slot)
{
	while (reader->next < MIN(reader->used, end)) {
		const struct table_slot *slot;
		int r;

		if (reader->next < reader->first || reader->next - reader->first >= reader->n) {
			r = read_chunk(reader);
			if (r < 0)
				return r;
		}
		slot = &reader->chunk[reader->next++ - reader->first];
		if (table_check_slot(slot) <= 0)
			continue;
		*ret_slot = *slot;
		return 1;
	}
	return 0;
}
