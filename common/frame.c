/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Varlink messages over a stream socket: the rules are in common/frame.h. */
#include "common/frame.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define RECEIVE_BYTES (64 * 1024)

void frame_reader_init(struct frame_reader *reader, size_t max_bytes,
		       void (*close_all)(const int *fds, size_t n))
{
	*reader = (struct frame_reader){.max_bytes = max_bytes, .fds = {.close_all = close_all}};
}

void frame_reader_clear(struct frame_reader *reader)
{
	g_clear_pointer(&reader->buffer, g_free);
	reader->size = reader->allocated = reader->scanned = 0;
	fdlist_clear(&reader->fds);
}

/* Puts the descriptors of a received control message into list, which closes them on any error. */
static void collect_fds(struct msghdr *header, struct fdlist *list)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg))
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
			fdlist_append(list, (const int *)(const void *)CMSG_DATA(cmsg),
				      (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

/* Whether the bytes from `from` on are, as far as they go, one message and no start of another. */
static bool is_one_message(const struct frame_reader *reader, size_t from)
{
	const char *nul = memchr(reader->buffer + from, '\0', reader->size - from);

	return !nul || nul == reader->buffer + reader->size - 1;
}

/* Whether the first message in the buffer is longer than any may be. */
static bool starts_too_long(const struct frame_reader *reader)
{
	return reader->size > reader->max_bytes &&
	       !memchr(reader->buffer, '\0', reader->max_bytes + 1);
}

int frame_reader_receive(struct frame_reader *reader, int socket)
{
	union {
		char bytes[CMSG_SPACE(FRAME_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	auto_fdlist received = {.close_all = reader->fds.close_all};
	struct iovec iov;
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	size_t before = reader->size;
	ssize_t n;

	if (reader->allocated - reader->size < RECEIVE_BYTES) {
		reader->allocated = reader->size + RECEIVE_BYTES;
		reader->buffer = g_realloc(reader->buffer, reader->allocated);
	}
	iov.iov_base = reader->buffer + reader->size;
	iov.iov_len = RECEIVE_BYTES;
	do
		n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	collect_fds(&header, &received);
	if (header.msg_flags & MSG_CTRUNC)
		return -ENOBUFS;
	if (n == 0)
		return 0;
	reader->size += n;
	if (starts_too_long(reader))
		return -EMSGSIZE;
	if (received.n > 0) {
		if (before > 0 || reader->fds.n > 0 || !is_one_message(reader, before))
			return -EBADMSG;
		fdlist_move(&reader->fds, &received);
	}
	return 1;
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
	if (reader->size == 0) {
		/* Most connections are idle most of the time: a thousand buffers would be 64 MiB. */
		g_clear_pointer(&reader->buffer, g_free);
		reader->allocated = 0;
	}
	fdlist_move(ret_fds, &reader->fds);
	return 1;
}

bool frame_too_deep(const char *json, size_t size)
{
	bool in_string = false;
	int depth = 0;

	for (size_t i = 0; i < size; i++) {
		char c = json[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > FRAME_MAX_DEPTH)
				return true;
		} else if (c == '}' || c == ']') {
			depth--;
		}
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
	union {
		char bytes[CMSG_SPACE(FRAME_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;

	while (writer->sent < writer->size) {
		struct iovec iov = {writer->bytes + writer->sent, writer->size - writer->sent};
		struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n;

		if (writer->fds) {
			struct cmsghdr *cmsg = &control.align;

			header.msg_control = control.bytes;
			header.msg_controllen = CMSG_SPACE(writer->n_fds * sizeof(int));
			memset(control.bytes, 0, header.msg_controllen);
			cmsg->cmsg_level = SOL_SOCKET;
			cmsg->cmsg_type = SCM_RIGHTS;
			cmsg->cmsg_len = CMSG_LEN(writer->n_fds * sizeof(int));
			memcpy(CMSG_DATA(cmsg), writer->fds, writer->n_fds * sizeof(int));
		}
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
