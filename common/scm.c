/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors beside a message: common/scm.h. */
#include "common/scm.h"

#include <string.h>

void scm_pack(struct msghdr *header, union scm_buffer *buffer, const int *fds, size_t n)
{
	struct cmsghdr *cmsg = &buffer->align;

	if (n == 0)
		return;
	header->msg_control = buffer->bytes;
	header->msg_controllen = CMSG_SPACE(n * sizeof(int));
	memset(buffer->bytes, 0, header->msg_controllen);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, n * sizeof(int));
}

void scm_prepare(struct msghdr *header, union scm_buffer *buffer)
{
	header->msg_control = buffer->bytes;
	header->msg_controllen = sizeof(buffer->bytes);
}

void scm_unpack(struct msghdr *header, struct fdlist *list)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg))
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
			fdlist_append(list, (const int *)(const void *)CMSG_DATA(cmsg),
				      (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}
