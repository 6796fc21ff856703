/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Varlink messages over a stream socket: JSON, a NUL, and descriptors beside it.
 *
 * The kernel ties descriptors to a byte of the stream, not to a message, and hands out those of a
 * later message together with the tail of one that has none. So from a peer a message with
 * descriptors must begin a receive and be alone in it; whatever else comes with descriptors is a
 * violation, and the connection has to be closed.
 *
 * A frame_writer, which the daemon's answers come from, sends descriptors with a message's first
 * byte and never two messages at once. The kernel ends a receive after a piece that had
 * descriptors, so these belong to the last message that begins in what was received. Its messages
 * may therefore follow each other without a pause.
 */
#ifndef COMMON_FRAME_H
#define COMMON_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#include "common/fdlist.h"
#include "common/scm.h"

#define FRAME_MAX_FDS	 SCM_MAX_FDS
#define FRAME_MAX_BYTES	 (1024 * 1024) /* of a message that the daemon takes, without its NUL */
#define FRAME_MAX_DEPTH	 32	       /* of arrays and objects in one another */
#define FRAME_MAX_VALUES 8192 /* in a message: each costs the parser far more than its bytes */

/* Incoming */

struct frame_reader {
	char *buffer;
	size_t size, allocated;
	size_t scanned;	   /* bytes known to hold no NUL */
	size_t max_bytes;  /* of one message, without its NUL */
	bool is_of_writer; /* a frame_writer sends: messages with descriptors may follow others */
	struct fdlist fds, next_fds;
	size_t fds_at, next_fds_at; /* where in the buffer their messages begin */
};

/* close_all and owner: as of a struct fdlist, for what is received and not taken. */
void frame_reader_init(struct frame_reader *reader, size_t max_bytes,
		       void (*close_all)(const int *fds, size_t n, void *owner), void *owner);
void frame_reader_clear(struct frame_reader *reader);

/*
 * Receives once. 1: something came. 0: the peer closed its side. -EAGAIN; -EINTR is retried.
 * -EBADMSG: descriptors where none may be. -ENOBUFS: the kernel could not install all descriptors
 * (MSG_CTRUNC). -EMSGSIZE: the message is too long. Those that came with an error are closed.
 */
int frame_reader_receive(struct frame_reader *reader, int socket);

/*
 * Takes the next whole message. 1: *ret_json is the caller's to free() (NUL-terminated, *ret_size
 * bytes without the NUL), its descriptors are moved to ret_fds. 0: none yet. Of a frame_writer's
 * messages all that are whole have to be taken before the next receive.
 */
int frame_reader_take(struct frame_reader *reader, char **ret_json, size_t *ret_size,
		      struct fdlist *ret_fds);

/* Whether the text nests deeper than FRAME_MAX_DEPTH; to be asked before it is parsed. */
bool frame_too_deep(const char *json, size_t size);

/* Whether there are more than FRAME_MAX_VALUES in it; likewise. */
bool frame_too_many(const char *json, size_t size);

/* Outgoing */

struct frame_writer {
	char *bytes; /* with its NUL */
	size_t size, sent;
	const int *fds; /* borrowed; NULL once sent */
	size_t n_fds;
};

/*
 * Prepares one message in an empty writer. json (malloc'ed) is the writer's now; fds stay the
 * caller's, and must stay open until all is sent.
 */
void frame_writer_set(struct frame_writer *writer, char *json, const int *fds, size_t n_fds);
void frame_writer_clear(struct frame_writer *writer);

/* Sends what fits. 1: all is sent. 0: the socket is full (-EAGAIN). Else -errno. */
int frame_writer_send(struct frame_writer *writer, int socket);

#endif
