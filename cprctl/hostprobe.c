/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What only the kernel can say of itself. Everything here is without effect: a container and an
 * iommufd are opened anew and closed empty, and no device or group is touched, since the first
 * open of one already resets it.
 */
#include <errno.h>
#include <linux/kcmp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "common/fd.h"
#include "common/uapi.h"
#include "cprctl/hostcheck.h"

void probe_type1(const char *root, struct type1_facts *ret_facts)
{
	g_autofree char *path = g_strconcat(root, "/dev/vfio/vfio", NULL);
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = IOMMU_OPTION_RLIMIT_MODE,
		.op = IOMMU_OPTION_OP_GET,
	};
	auto_fd fd = open(path, O_RDWR | O_CLOEXEC);

	*ret_facts = (struct type1_facts){0};
	if (fd < 0) {
		ret_facts->error = errno;
		return;
	}
	/* Both a container and iommufd answer this one; only iommufd knows its own options. */
	ret_facts->is_vfio = ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION;
	if (!ret_facts->is_vfio)
		return;
	ret_facts->is_iommufd = ioctl(fd, IOMMU_OPTION, &option) == 0;
	ret_facts->type1v2 = ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) > 0;
	ret_facts->unmap_all = ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_UNMAP_ALL) > 0;
	/* VFIO_UPDATE_VADDR is 0 before VFIO_SET_IOMMU, for which it takes a group: not asked. */
}

void probe_iommufd(const char *root, struct iommufd_facts *ret_facts)
{
	g_autofree char *path = g_strconcat(root, "/dev/iommu", NULL);
	struct iommu_ioas_change_process change = {.size = sizeof(change)};
	auto_fd fd = open(path, O_RDWR | O_CLOEXEC);

	*ret_facts = (struct iommufd_facts){0};
	if (fd < 0)
		ret_facts->error = errno;
	else if (ioctl(fd, IOMMU_IOAS_CHANGE_PROCESS, &change) < 0)
		ret_facts->change_process = errno;
}

static guint64 limit(rlim_t value)
{
	return value == RLIM_INFINITY ? LIMIT_INFINITY : value;
}

void probe_process(struct process_facts *ret_facts)
{
	struct rlimit memlock = {0}, nofile = {0};
	auto_fd pidfd = -1;
	socklen_t length = sizeof(pidfd);
	int pair[2];
	pid_t pid = getpid();

	*ret_facts = (struct process_facts){0};
	getrlimit(RLIMIT_MEMLOCK, &memlock);
	getrlimit(RLIMIT_NOFILE, &nofile);
	ret_facts->limits.memlock = limit(memlock.rlim_cur);
	ret_facts->limits.nofile = limit(nofile.rlim_max);

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	ret_facts->peer_pidfd = getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0;
	ret_facts->dupfd_query = fcntl(pair[0], F_DUPFD_QUERY, pair[0]) == 1;
	ret_facts->kcmp = syscall(SYS_kcmp, pid, pid, KCMP_FILE, pair[0], pair[0]) == 0;
	close(pair[0]);
	close(pair[1]);
}
