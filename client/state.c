/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Named bytes of the VMM's own. Each is a memfd that is sealed against every change before it is
 * stored, so what is held is whole; the daemon replaces the old one by the new in one step.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/cpr.h"
#include "client/inventory.h"
#include "common/fd.h"

#define STATE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static int state_memfd(const void *data, size_t size)
{
	const char *bytes = data;
	auto_fd fd = memfd_create("vfio-cpr-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, bytes + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += n;
	}
	if (fcntl(fd, F_ADD_SEALS, STATE_SEALS) < 0)
		return -errno;
	return fd_take(&fd);
}

int vfio_cpr_state_put(struct vfio_cpr *cpr, const char *name, const void *data, size_t size)
{
	auto_object object = NULL;
	int fd, r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "state", name);
	if (r < 0)
		return r;
	if (size > STATE_MAX_BYTES)
		return cpr_fail(
			cpr, -EINVAL,
			"state %s has %zu bytes, over 16 MiB: keep it in memory of the session",
			name, size);
	fd = state_memfd(data, size);
	if (fd < 0)
		return cpr_fail(cpr, fd, "cannot write state %s: %s", name, g_strerror(-fd));
	object = object_new(OBJECT_STATE, name);
	object_set_fd(object, 0, fd);
	r = inventory_store(cpr, &object, 1);
	if (r == 0)
		object = NULL; /* the inventory's */
	return r;
}

int vfio_cpr_state_get(struct vfio_cpr *cpr, const char *name, void **ret_data, size_t *ret_size)
{
	struct object *object;
	struct stat st;
	char *data;
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "state", name);
	if (r < 0)
		return r;
	object = inventory_find(cpr, OBJECT_STATE, name);
	if (!object)
		return cpr_fail(cpr, -ENOENT, "the session has no state %s", name);
	if (fstat(object_fd(object, 0), &st) < 0)
		return cpr_fail(cpr, -errno, "cannot stat state %s: %s", name, g_strerror(errno));
	data = malloc(st.st_size + 1);
	if (!data)
		return -ENOMEM;
	data[st.st_size] = '\0'; /* so that a state that is text can be read as a string */
	for (off_t done = 0; done < st.st_size;) {
		ssize_t n = pread(object_fd(object, 0), data + done, st.st_size - done, done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : -EIO;
			free(data);
			return cpr_fail(cpr, r, "cannot read state %s: %s", name, g_strerror(-r));
		}
		done += n;
	}
	*ret_data = data;
	*ret_size = st.st_size;
	return 0;
}

int vfio_cpr_state_remove(struct vfio_cpr *cpr, const char *name)
{
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "state", name);
	if (r < 0)
		return r;
	return inventory_remove(cpr, OBJECT_STATE, name);
}
