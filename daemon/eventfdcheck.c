/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a descriptor is an eventfd: daemon/eventfdcheck.h.
 *
 * An io_submit() may name an eventfd to be told by when it is done (IOCB_FLAG_RESFD). The kernel
 * looks whether it is one (eventfd_ctx_fdget(): EBADF if it is not open, EINVAL if it is something
 * else), and only then at the rest, which here asks for a flag that no kernel has: EOPNOTSUPP, from
 * kiocb_set_rw_flags(). So nothing is ever submitted, and the eventfd is neither read nor written
 * (__io_submit_one() in fs/aio.c, Linux 6.1 to 7.0). Whether that is still so is tried out first, on
 * an eventfd of the daemon's own.
 */
#include "daemon/eventfdcheck.h"

#include <errno.h>
#include <glib.h>
#include <linux/aio_abi.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"

#define NO_SUCH_FLAG (1 << 30)

static struct {
	aio_context_t context;
	int own;    /* an eventfd */
	int usable; /* 0, or -errno */
} check = {.own = -1};

/* What the kernel says to it: -errno. */
static int submit(int fd)
{
	struct iocb request = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = check.own,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = fd,
		.aio_rw_flags = NO_SUCH_FLAG,
	};
	struct iocb *requests[] = {&request};

	return syscall(SYS_io_submit, check.context, 1, requests) < 0 ? -errno : 0;
}

static int prepare(void)
{
	auto_fd other = -1;

	check.own = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (check.own < 0 || syscall(SYS_io_setup, 1, &check.context) < 0)
		return -errno;
	other = epoll_create1(EPOLL_CLOEXEC);
	if (other < 0)
		return -errno;
	return submit(check.own) == -EOPNOTSUPP && submit(other) == -EINVAL ? 0 : -ENOSYS;
}

void eventfdcheck_begin(void)
{
	static gsize once;

	if (g_once_init_enter(&once)) {
		check.usable = prepare();
		g_once_init_leave(&once, 1);
	}
}

void eventfdcheck_end(void)
{
	if (check.context)
		syscall(SYS_io_destroy, check.context);
	check.context = 0;
	check.usable = -ENOSYS;
	fd_close(&check.own);
}

int eventfdcheck(int fd)
{
	int r;

	eventfdcheck_begin();
	if (check.usable < 0)
		return check.usable;
	r = submit(fd);
	if (r == -EOPNOTSUPP)
		return 1;
	/* Anything else says nothing of it: EAGAIN, that memory or the context's requests are short. */
	return r == -EINVAL || r == -EBADF ? 0 : r;
}
