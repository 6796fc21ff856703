/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kills its process at a chosen kernel call, as an operator's kill -9 could: preloaded into a VMM
 * with KILLPOINT="WHAT:N:before" or "WHAT:N:after", it dies around the Nth such call. WHAT is a
 * name of the table below, or "any": every call seen here, so that counting N up from 1 visits
 * each step that a process makes.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/uapi.h"

static int seen;

static void die_at(const char *what, const char *when)
{
	const char *point = getenv("KILLPOINT");
	char name[32], moment[16];
	int n;

	if (!point || sscanf(point, "%31[^:]:%d:%15s", name, &n, moment) != 3)
		return;
	if (strcmp(name, what) != 0 && strcmp(name, "any") != 0)
		return;
	if (strcmp(when, "before") == 0)
		seen++;
	if (seen == n && strcmp(moment, when) == 0)
		kill(getpid(), SIGKILL);
}

static const char *ioctl_name(unsigned long request, const void *argument)
{
	switch (request) {
	case VFIO_IOMMU_MAP_DMA:
		return ((const struct vfio_iommu_type1_dma_map *)argument)->flags &
				       VFIO_DMA_MAP_FLAG_VADDR
			       ? "restore"
			       : "map";
	case VFIO_IOMMU_UNMAP_DMA:
	case IOMMU_IOAS_UNMAP:
		return "unmap";
	case IOMMU_IOAS_MAP_FILE:
		return "map";
	case IOMMU_IOAS_CHANGE_PROCESS:
		return "change-process";
	case VFIO_DEVICE_SET_IRQS:
		return "set-irqs";
	default:
		return "ioctl";
	}
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, void *) = dlsym(RTLD_NEXT, "ioctl");
	const char *name;
	va_list arguments;
	void *argument;
	int r;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	name = ioctl_name(request, argument);
	die_at(name, "before");
	r = real(fd, request, argument);
	die_at(name, "after");
	return r;
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
	ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
	ssize_t r;

	die_at("send", "before");
	r = real(socket, message, flags);
	die_at("send", "after");
	return r;
}

ssize_t recvmsg(int socket, struct msghdr *message, int flags)
{
	ssize_t (*real)(int, struct msghdr *, int) = dlsym(RTLD_NEXT, "recvmsg");
	ssize_t r;

	die_at("receive", "before");
	r = real(socket, message, flags);
	die_at("receive", "after");
	return r;
}
