/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every call by which the daemon changes or asks the kernel's VFIO and process state, in one
 * table, so that a test can make any of them fail as a real kernel will not do on demand.
 */
#ifndef DAEMON_KERNEL_H
#define DAEMON_KERNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct kernel_ops {
	/*
	 * VFIO_IOMMU_UNMAP_DMA with FLAG_VADDR: one mapping, or all (iova and size 0). *ret_size: bytes
	 * invalidated; 0 with success means that nothing was done. -EINVAL: one of them was invalid
	 * already. -EBUSY: an mdev. Linux 6.0 (before: refuses other processes by a silent 0).
	 */
	int (*unmap_vaddr)(int container, bool all, uint64_t iova, uint64_t size,
			   uint64_t *ret_size);
	/* IOMMU_IOAS_CHANGE_PROCESS: the pins of all IOAS become the caller's. Linux 6.13. */
	int (*change_process)(int iommufd);
	/* VFIO_GET_API_VERSION; -errno where it is no container. */
	int (*container_version)(int container);
	/* IOMMU_OPTION get: 0 on an iommufd (or on its imitation of a container), -errno elsewhere. */
	int (*iommufd_probe)(int fd);
	/* Whether it is an open eventfd: 1, 0, or -errno if the kernel cannot tell so. */
	int (*is_eventfd)(int fd);
	/* F_GETFL: how it was opened. O_PATH: it was not, and only names a file. */
	int (*open_flags)(int fd);
	/* VFIO_DEVICE_GET_INFO: 0, or -EINVAL on a cdev that is not bound to an iommufd. */
	int (*device_probe)(int device);
	/* VFIO_GROUP_GET_STATUS: its flags, or -errno. */
	int (*group_status)(int group);
	/* Whether two descriptors are one open file: 1, 0, or -errno if the kernel cannot tell. */
	int (*same_file)(int a, int b);
	/* A pidfd of the process at the other end of a unix socket; pid as in SO_PEERCRED. */
	int (*peer_pidfd)(int socket, pid_t pid);
	/*
	 * Whether two pidfds are of one process, and it lives: 1, 0, or -errno if that cannot be told,
	 * as of processes in other PID namespaces before Linux 6.9.
	 */
	int (*same_process)(int a, int b);
	int (*accept)(int socket);
	/* May block for seconds: the last close of a device resets it. */
	int (*close)(int fd);
	/* A thread that nobody joins, with all signals blocked. -EAGAIN: one more than may be. */
	int (*start_thread)(void *(*run)(void *data), void *data);
};

extern const struct kernel_ops kernel_real;
extern const struct kernel_ops *kernel; /* kernel_real, unless a test has put another here */

#endif
