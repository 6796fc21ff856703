/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors beside a message (SCM_RIGHTS): packed into what sendmsg() takes, and unpacked from
 * what recvmsg() gave. Whether they all arrived (MSG_CTRUNC) is the receiver's to ask.
 */
#ifndef COMMON_SCM_H
#define COMMON_SCM_H

#include <sys/socket.h>

#include "common/fdlist.h"

#define SCM_MAX_FDS 253 /* of one message: SCM_MAX_FD, net/core/scm.c */

/* Room for the descriptors of a message; to live as long as the header that points to it. */
union scm_buffer {
	char bytes[CMSG_SPACE(SCM_MAX_FDS * sizeof(int))];
	struct cmsghdr align;
};

/* Puts n descriptors, at most SCM_MAX_FDS, into a header to send. They stay the caller's. */
void scm_pack(struct msghdr *header, union scm_buffer *buffer, const int *fds, size_t n);

/* Gives a header the room to receive descriptors. */
void scm_prepare(struct msghdr *header, union scm_buffer *buffer);

/* Appends the descriptors of a received header to the list, which owns them. */
void scm_unpack(struct msghdr *header, struct fdlist *list);

#endif
