/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Varlink messages over a stream socket: the rules are in common/frame.h. */
#include "common/frame.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Most messages are shorter; the buffer doubles for those that are not. */
#define RECEIVE_BYTES 4096

void frame_reader_init(struct frame_reader *reader, size_t max_bytes,
		       void (*close_all)(const int *fds, size_t n, void *owner), void *owner)
{
	*reader = (struct frame_reader){
		.max_bytes = max_bytes,
		.fds = {.close_all = close_all, .owner = owner},
		.next_fds = {.close_all = close_all, .owner = owner},
	};
}

void frame_reader_clear(struct frame_reader *reader)
{
	g_clear_pointer(&reader->buffer, g_free);
	reader->size = reader->allocated = reader->scanned = 0;
	fdlist_clear(&reader->fds);
	fdlist_clear(&reader->next_fds);
}

/* Where the last message in the buffer begins, whole or not. */
static size_t last_message(const struct frame_reader *reader)
{
	const char *nul = memrchr(reader->buffer, '\0', reader->size - 1);

	return nul ? nul + 1 - reader->buffer : 0;
}

/* Finds the message that received descriptors belong to; `before` was the buffer's size. */
static int assign_fds(struct frame_reader *reader, struct fdlist *received, size_t before)
{
	size_t at = last_message(reader);

	if (at < before || reader->next_fds.n > 0 || (at > 0 && !reader->is_of_writer))
		return -EBADMSG;
	if (reader->fds.n == 0) {
		fdlist_move(&reader->fds, received);
		reader->fds_at = at;
	} else {
		fdlist_move(&reader->next_fds, received);
		reader->next_fds_at = at;
	}
	return 1;
}

/* The descriptors of the first message, which ends at `end`, to list; it is gone then. */
static void take_fds(struct frame_reader *reader, size_t end, struct fdlist *list)
{
	if (reader->fds_at == 0)
		fdlist_move(list, &reader->fds);
	if (reader->fds.n == 0) {
		fdlist_move(&reader->fds, &reader->next_fds);
		reader->fds_at = reader->next_fds_at;
	}
	reader->fds_at = reader->fds.n > 0 ? reader->fds_at - end : 0;
	reader->next_fds_at -= reader->next_fds.n > 0 ? end : 0;
}

/* Whether the first message in the buffer is longer than any may be. */
static bool starts_too_long(const struct frame_reader *reader)
{
	return reader->size > reader->max_bytes &&
	       !memchr(reader->buffer, '\0', reader->max_bytes + 1);
}

int frame_reader_receive(struct frame_reader *reader, int socket)
{
	union scm_buffer control;
	auto_fdlist received = {.close_all = reader->fds.close_all, .owner = reader->fds.owner};
	struct iovec iov;
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	size_t before = reader->size;
	ssize_t n;

	if (reader->allocated - reader->size < RECEIVE_BYTES) {
		reader->allocated = MAX(2 * reader->allocated, RECEIVE_BYTES);
		reader->buffer = g_realloc(reader->buffer, reader->allocated);
	}
	iov.iov_base = reader->buffer + reader->size;
	iov.iov_len = reader->allocated - reader->size;
	scm_prepare(&header, &control);
	do
		n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	scm_unpack(&header, &received);
	if (header.msg_flags & MSG_CTRUNC)
		return -ENOBUFS;
	if (n == 0)
		return 0;
	reader->size += n;
	if (starts_too_long(reader))
		return -EMSGSIZE;
	return received.n > 0 ? assign_fds(reader, &received, before) : 1;
}

int frame_reader_take(struct frame_reader *reader, char **ret_json, size_t *ret_size,
		      struct fdlist *ret_fds)
{
	char *nul = NULL;
	size_t size;

	if (reader->size > reader->scanned)
		nul = memchr(reader->buffer + reader->scanned, '\0',
			     reader->size - reader->scanned);
	if (!nul) {
		reader->scanned = reader->size;
		return 0;
	}
	size = nul - reader->buffer;
	*ret_json = malloc(size + 1);
	if (!*ret_json)
		return -ENOMEM;
	memcpy(*ret_json, reader->buffer, size + 1);
	*ret_size = size;
	reader->size -= size + 1;
	memmove(reader->buffer, nul + 1, reader->size);
	reader->scanned = 0;
	take_fds(reader, size + 1, ret_fds);
	if (reader->size == 0) {
		/* Most connections are idle most of the time. */
		g_clear_pointer(&reader->buffer, g_free);
		reader->allocated = 0;
	}
	return 1;
}

/* The end of the string that begins there, or the end of the text. */
static size_t end_of_string(const char *json, size_t size, size_t at)
{
	for (at++; at < size && json[at] != '"'; at++)
		if (json[at] == '\\')
			at++;
	return at;
}

bool frame_too_deep(const char *json, size_t size)
{
	int depth = 0;

	for (size_t i = 0; i < size; i++) {
		char c = json[i];

		if (c == '"')
			i = end_of_string(json, size, i);
		else if (c == '}' || c == ']')
			depth--;
		else if ((c == '{' || c == '[') && ++depth > FRAME_MAX_DEPTH)
			return true;
	}
	return false;
}

bool frame_too_many(const char *json, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		char c = json[i];

		if (c == '"')
			i = end_of_string(json, size, i);
		else if ((c == ',' || c == '{' || c == '[') && ++n > FRAME_MAX_VALUES)
			return true;
	}
	return false;
}

void frame_writer_set(struct frame_writer *writer, char *json, const int *fds, size_t n_fds)
{
	g_assert(!writer->bytes && n_fds <= FRAME_MAX_FDS);
	*writer = (struct frame_writer){
		.bytes = json,
		.size = strlen(json) + 1,
		.fds = n_fds > 0 ? fds : NULL,
		.n_fds = n_fds,
	};
}

void frame_writer_clear(struct frame_writer *writer)
{
	free(writer->bytes);
	*writer = (struct frame_writer){0};
}

int frame_writer_send(struct frame_writer *writer, int socket)
{
	union scm_buffer control;

	while (writer->sent < writer->size) {
		struct iovec iov = {writer->bytes + writer->sent, writer->size - writer->sent};
		struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n;

		if (writer->fds)
			scm_pack(&header, &control, writer->fds, writer->n_fds);
		n = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN ? 0 : -errno;
		}
		writer->sent += n;
		writer->fds = NULL;
	}
	return 1;
}
