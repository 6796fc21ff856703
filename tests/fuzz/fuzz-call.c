/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hostile message: call_parse(), and object_from_json() on what a Store call would name, with three
 * eventfds and a memfd that came with it. However it ends, each descriptor has one owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/kernel.h"
#include "daemon/object.h"
#include "daemon/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FDS 4

static unsigned int closed;

static int count_close(int fd)
{
	g_atomic_int_inc(&closed);
	return close(fd);
}

static int refuse(int fd)
{
	(void)fd;
	return -ENOTTY;
}

static struct kernel_ops fake = {
	.close = count_close,
	.container_version = refuse,
	.iommufd_probe = refuse,
	.group_status = refuse,
	.device_probe = refuse,
};

static void close_all(const int *fds, size_t n, void *unused)
{
	(void)unused;
	for (size_t i = 0; i < n; i++)
		count_close(fds[i]);
}

static void make_descriptors(struct fdlist *list)
{
	int fds[FDS];

	for (int i = 0; i < FDS - 1; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	fds[FDS - 1] = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	g_assert(ftruncate(fds[FDS - 1], 4096) == 0);
	fdlist_append(list, fds, FDS);
}

static void store(struct call *call)
{
	json_t *objects = json_object_get(call->parameters, "objects"), *json;
	size_t used = 0, i;

	json_array_foreach(objects, i, json)
	{
		g_autofree char *message = NULL;
		const char *parameter = NULL;
		struct object *object =
			object_from_json(json, &call->fds, &used, &parameter, &message);

		g_assert(object || (parameter && message));
		object_free(object);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct call call = {.fds.close_all = close_all};
	g_autofree char *problem = NULL;

	if (kernel != &fake) {
		kernel = &fake;
		fake.start_thread = kernel_real.start_thread;
		g_assert(worker_start(event_base_new()) == 0);
	}
	closed = 0;
	make_descriptors(&call.fds);
	problem = call_parse(&call, (const char *)data, size);
	g_assert(!problem == !!call.method);
	if (!problem)
		store(&call);
	call_clear(&call);
	worker_drain();
	g_assert(closed == FDS);
	return 0;
}
