/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's kernel calls, for real. What each means is in daemon/kernel.h. */
#include "daemon/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/memfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/uapi.h"
#include "daemon/eventfdcheck.h"
#include "daemon/process.h"

#define STACK_BYTES \
	(1024 * 1024) /* of a thread: 8 MiB each count where memory is not overcommitted */

static int unmap_vaddr(int container, bool all, uint64_t iova, uint64_t size, uint64_t *ret_size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = VFIO_DMA_UNMAP_FLAG_VADDR | (all ? VFIO_DMA_UNMAP_FLAG_ALL : 0),
		.iova = iova,
		.size = size,
	};

	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
		return -errno;
	*ret_size = unmap.size;
	return 0;
}

static int change_process(int iommufd)
{
	struct iommu_ioas_change_process change = {.size = sizeof(change)};

	return ioctl(iommufd, IOMMU_IOAS_CHANGE_PROCESS, &change) < 0 ? -errno : 0;
}

static int container_version(int container)
{
	int version = ioctl(container, VFIO_GET_API_VERSION);

	return version < 0 ? -errno : version;
}

static int iommufd_probe(int fd)
{
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = IOMMU_OPTION_RLIMIT_MODE,
		.op = IOMMU_OPTION_OP_GET,
	};

	return ioctl(fd, IOMMU_OPTION, &option) < 0 ? -errno : 0;
}

static int open_flags(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -errno : flags;
}

static int device_probe(int device)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};

	return ioctl(device, VFIO_DEVICE_GET_INFO, &info) < 0 ? -errno : 0;
}

static int group_status(int group)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};

	return ioctl(group, VFIO_GROUP_GET_STATUS, &status) < 0 ? -errno : (int)status.flags;
}

static int same_file(int a, int b)
{
	pid_t self = getpid();
	int r = fcntl(a, F_DUPFD_QUERY, b);

	if (r >= 0)
		return r;
	/* Before Linux 6.10: EINVAL. kcmp() needs CONFIG_KCMP and may be filtered. */
	r = syscall(SYS_kcmp, self, self, KCMP_FILE, a, b);
	return r < 0 ? -errno : r == 0;
}

static int peer_pidfd(int socket, pid_t pid)
{
	struct pollfd hangup = {.fd = socket};
	socklen_t length = sizeof(int);
	int pidfd;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0)
		return pidfd;
	if (errno != ENOPROTOOPT)
		return -errno;
	/*
	 * Before Linux 6.5: by number. The number can only have been given to another process if the
	 * peer is gone, and then so is its end of the socket.
	 */
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	if (poll(&hangup, 1, 0) > 0 && (hangup.revents & POLLHUP)) {
		close(pidfd);
		return -ESRCH;
	}
	return pidfd;
}

static int accept_socket(int socket)
{
	int fd = accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

static int close_fd(int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

/* Signals are the main thread's, whose loop waits for them. */
static int start_thread(void *(*run)(void *data), void *data)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int r;

	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, &attributes, run, data);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -r;
}

const struct kernel_ops kernel_real = {
	.unmap_vaddr = unmap_vaddr,
	.change_process = change_process,
	.container_version = container_version,
	.iommufd_probe = iommufd_probe,
	.is_eventfd = eventfdcheck,
	.open_flags = open_flags,
	.device_probe = device_probe,
	.group_status = group_status,
	.same_file = same_file,
	.peer_pidfd = peer_pidfd,
	.same_process = process_same,
	.accept = accept_socket,
	.close = close_fd,
	.start_thread = start_thread,
};

const struct kernel_ops *kernel = &kernel_real;
