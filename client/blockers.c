/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Why the session could not be handed over, found while there is time to do something about it.
 * Only what is certain is told, and no question is asked that would change anything.
 * CHECK_EXTENSION changes nothing; IOMMU_IOAS_CHANGE_PROCESS cannot be tried out, as it would move
 * what is pinned.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "client/cpr.h"
#include "client/inventory.h"
#include "common/uapi.h"

/* Until Linux 6.0 only the process that mapped could invalidate, and a dead one cannot. */
#define TYPE1_MAJOR 6

struct report {
	int (*fn)(const char *object, const char *reason, void *userdata);
	void *userdata;
	int n;
	int stop; /* what fn returned; not 0: it wants no more */
};

/* Returns false when the VMM has heard enough. */
static bool report(struct report *to, const char *object, const char *reason)
{
	to->n++;
	to->stop = to->fn(object, reason, to->userdata);
	return to->stop == 0;
}

static bool memory_blockers(const struct object *object, struct report *to)
{
	int seals = fcntl(object_fd(object, 0), F_GET_SEALS);

	if (seals >= 0 && (seals & F_SEAL_SHRINK))
		return true;
	return report(
		to, object->name,
		"this memory can shrink, and a device goes on writing to pages that its file no "
		"longer has: use a memfd made with MFD_ALLOW_SEALING");
}

static bool kernel_is_too_old(void)
{
	struct utsname name;
	int major;

	return uname(&name) == 0 && sscanf(name.release, "%d.", &major) == 1 && major < TYPE1_MAJOR;
}

static bool type1_blockers(struct vfio_cpr_space *space, struct report *to)
{
	int container = object_fd(space->context, 0);

	if (kernel_is_too_old() &&
	    !report(to, space->name,
		    "this kernel lets only the process that mapped it invalidate a DMA address, and a "
		    "killed one cannot: Linux 6.0 is needed"))
		return false;
	/* Without a group there is no IOMMU, and the kernel says no to everything. */
	if (!inventory_group(space->cpr, space->name))
		return true;
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR) != 1 &&
	    !report(to, space->name,
		    "the kernel cannot update DMA addresses of this container (VFIO_UPDATE_VADDR): an "
		    "mdev device in it, or a kernel before Linux 5.12"))
		return false;
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_UNMAP_ALL) != 1 &&
	    !report(to, space->name, "the kernel has no VFIO_UNMAP_ALL: Linux 5.12 is needed"))
		return false;
	return true;
}

static uint64_t space_bytes(const struct vfio_cpr_space *space)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < table_used(&space->table); i++) {
		struct table_slot slot;

		if (table_read(&space->table, i, &slot) > 0)
			bytes += slot.size;
	}
	return bytes;
}

/* A single space over the limit cannot be charged to a successor under the same one. */
static bool limit_blockers(struct vfio_cpr_space *space, struct report *to)
{
	bool is_type1 = space->backend == VFIO_CPR_BACKEND_TYPE1;
	g_autofree char *reason = NULL;
	struct rlimit limit;

	/* For root type1 does not count at all (CAP_IPC_LOCK), and iommufd counts only what was
	 * mapped without that capability. Either way nothing is certain then. */
	if (geteuid() == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 ||
	    limit.rlim_max == RLIM_INFINITY || space_bytes(space) <= limit.rlim_max)
		return true;
	reason = g_strdup_printf(
		"its mappings are more than the hard RLIMIT_MEMLOCK of %llu bytes, "
		"which a successor will be held to%s: set LimitMEMLOCK=infinity",
		(unsigned long long)limit.rlim_max, is_type1 ? "" : " (even with CAP_IPC_LOCK)");
	return report(to, space->name, reason);
}

int vfio_cpr_blockers(struct vfio_cpr *cpr,
		      int (*fn)(const char *object, const char *reason, void *userdata),
		      void *userdata)
{
	struct report to = {.fn = fn, .userdata = userdata};
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = spaces_open_all(cpr);
	if (r < 0)
		return r;
	if (!cpr->is_protected &&
	    !report(&to, cpr->session,
		    "no daemon holds this session: start vfio-cprd, then open and attach anew"))
		return to.stop;
	for (guint i = 0; i < cpr->objects->len; i++) {
		const struct object *object = cpr->objects->pdata[i];

		if (object->kind == OBJECT_MEMORY && !memory_blockers(object, &to))
			return to.stop;
		if (object->kind == OBJECT_TABLE) {
			struct vfio_cpr_space *space =
				g_hash_table_lookup(cpr->spaces, object->name);

			if (space->backend == VFIO_CPR_BACKEND_TYPE1 && !type1_blockers(space, &to))
				return to.stop;
			if (!limit_blockers(space, &to))
				return to.stop;
		}
	}
	return to.n;
}
