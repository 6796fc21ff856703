/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Address spaces: a type1 container, or an IOAS of the session's one iommufd. Here is decided
 * whether the kernel can hand DMA over at all, before anything depends on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "client/cpr.h"
#include "client/inventory.h"
#include "client/slots.h"
#include "common/fd.h"
#include "common/uapi.h"

#define CONTAINER_PATH "/dev/vfio/vfio"
#define IOMMUFD_PATH   "/dev/iommu"
#define IOMMUFD_NAME   "iommufd"   /* the one object of that kind in a session */
#define TABLE_SLOTS    (65536 * 4) /* 8 MiB, but only pages in use take memory */

static const char *backend_name(enum vfio_cpr_backend backend)
{
	return backend == VFIO_CPR_BACKEND_IOMMUFD ? "iommufd" : "type1";
}

/* Wraps a stored table, and what it belongs to. */
int space_open(struct vfio_cpr *cpr, struct object *table, struct vfio_cpr_space **ret_space)
{
	bool is_iommufd = table->attributes.ioas_id >= 0;
	struct vfio_cpr_space *space;
	struct object *context;
	int r;

	context = is_iommufd ? inventory_find(cpr, OBJECT_IOMMUFD, IOMMUFD_NAME)
			     : inventory_find(cpr, OBJECT_CONTAINER, table->name);
	if (!context)
		return cpr_fail(
			cpr, -ENOENT,
			"address space %s has a table but no %s any more: release the session",
			table->name, is_iommufd ? "iommufd" : "container");

	space = g_new0(struct vfio_cpr_space, 1);
	space->cpr = cpr;
	space->backend = is_iommufd ? VFIO_CPR_BACKEND_IOMMUFD : VFIO_CPR_BACKEND_TYPE1;
	space->name = g_strdup(table->name);
	space->context = context;
	space->table_object = table;
	r = table_open(object_fd(table, 0), true, &space->table);
	if (r < 0)
		cpr_fail(cpr, r, "the mapping table of address space %s cannot be used: %s",
			 table->name, g_strerror(-r));
	else
		r = slots_load(space);
	if (r < 0) {
		space_free(space);
		return r;
	}
	g_hash_table_insert(cpr->spaces, space->name, space);
	*ret_space = space;
	return 0;
}

void space_free(struct vfio_cpr_space *space)
{
	table_close(&space->table);
	g_clear_pointer(&space->slots, g_hash_table_unref);
	g_clear_pointer(&space->free_slots, g_array_unref);
	g_free(space->pending);
	g_free(space->name);
	g_free(space);
}

int spaces_open_all(struct vfio_cpr *cpr)
{
	for (guint i = 0; i < cpr->objects->len; i++) {
		struct object *object = cpr->objects->pdata[i];
		struct vfio_cpr_space *space;
		int r;

		if (object->kind != OBJECT_TABLE || g_hash_table_lookup(cpr->spaces, object->name))
			continue;
		r = space_open(cpr, object, &space);
		if (r < 0)
			return r;
	}
	return 0;
}

static int fail_open(struct vfio_cpr *cpr, int error, const char *path, const char *modules)
{
	return cpr_fail(cpr, error, "cannot open %s: %s: %s%s", path, g_strerror(-error),
			error == -EACCES || error == -EPERM ? "this user needs access to it"
							    : "the kernel lacks ",
			error == -EACCES || error == -EPERM ? "" : modules);
}

/*
 * iommufd can imitate a container (CONFIG_IOMMUFD_VFIO_CONTAINER), and then answers its ioctls.
 * Only iommufd answers IOMMU_OPTION.
 */
static bool is_iommufd(int fd)
{
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = IOMMU_OPTION_RLIMIT_MODE,
		.op = IOMMU_OPTION_OP_GET,
	};

	return ioctl(fd, IOMMU_OPTION, &option) == 0;
}

/* A fresh container that can become a type1v2 one; or -errno. */
static int container_create(struct vfio_cpr *cpr)
{
	auto_fd fd = open(CONTAINER_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return fail_open(cpr, -errno, CONTAINER_PATH,
				 "vfio: load vfio and vfio_iommu_type1");
	if (is_iommufd(fd))
		return cpr_fail(
			cpr, -EOPNOTSUPP,
			"%s is iommufd's imitation, whose mappings cannot be handed over: use "
			"the iommufd backend, or a kernel with CONFIG_VFIO_CONTAINER",
			CONTAINER_PATH);
	if (ioctl(fd, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		return cpr_fail(cpr, -EOPNOTSUPP, "%s speaks another version of VFIO",
				CONTAINER_PATH);
	if (ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1)
		return cpr_fail(cpr, -EOPNOTSUPP,
				"%s has no type1v2 IOMMU driver: load vfio_iommu_type1",
				CONTAINER_PATH);
	return fd_take(&fd);
}

/*
 * A fresh iommufd. Whether the kernel has IOMMU_IOAS_CHANGE_PROCESS is tried now, while nothing is
 * mapped: later, trying it would move what is pinned.
 */
static int iommufd_create(struct vfio_cpr *cpr)
{
	struct iommu_ioas_change_process change = {.size = sizeof(change)};
	auto_fd fd = open(IOMMUFD_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return fail_open(cpr, -errno, IOMMUFD_PATH,
				 "iommufd: load it, or build it in (CONFIG_IOMMUFD)");
	if (ioctl(fd, IOMMU_IOAS_CHANGE_PROCESS, &change) < 0)
		return cpr_fail(
			cpr, -EOPNOTSUPP,
			"this kernel's iommufd has no IOMMU_IOAS_CHANGE_PROCESS (%s): Linux "
			"6.14 has it; use the type1 backend until then",
			g_strerror(errno));
	return fd_take(&fd);
}

/* Whether VFIO makes device cdevs, without which an iommufd is of no use. */
static bool kernel_has_cdevs(void)
{
	g_autofree char *devices = NULL;

	return g_file_get_contents("/proc/devices", &devices, NULL, NULL) &&
	       strstr(devices, " vfio-dev\n");
}

static int space_create_type1(struct vfio_cpr *cpr, struct object *table)
{
	auto_object container = NULL;
	struct object *objects[2];
	int fd, r;

	fd = container_create(cpr);
	if (fd < 0)
		return fd;
	container = object_new(OBJECT_CONTAINER, table->name);
	object_set_fd(container, 0, fd);
	objects[0] = container;
	objects[1] = table;
	r = inventory_store(cpr, objects, 2);
	if (r == 0)
		container = NULL;
	return r;
}

/* context: the session's iommufd; or a new one, consumed on success only. */
static int space_create_iommufd(struct vfio_cpr *cpr, struct object *table, struct object *context)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
	bool is_new = context->id == 0;
	struct object *objects[2] = {is_new ? context : table, table};
	int r;

	if (ioctl(object_fd(context, 0), IOMMU_IOAS_ALLOC, &alloc) < 0)
		return cpr_fail(cpr, -errno, "cannot make an IOAS for address space %s: %s",
				table->name, g_strerror(errno));
	table->attributes.ioas_id = alloc.out_ioas_id;
	r = inventory_store(cpr, objects, is_new ? 2 : 1);
	if (r < 0) {
		struct iommu_destroy destroy = {.size = sizeof(destroy), .id = alloc.out_ioas_id};

		(void)ioctl(object_fd(context, 0), IOMMU_DESTROY, &destroy);
	}
	return r;
}

static int space_create(struct vfio_cpr *cpr, struct object *table, enum vfio_cpr_backend backend)
{
	struct object *held = inventory_find(cpr, OBJECT_IOMMUFD, IOMMUFD_NAME);
	auto_object context = NULL;
	int fd, r;

	if (backend == VFIO_CPR_BACKEND_TYPE1 ||
	    (backend == VFIO_CPR_BACKEND_AUTO && !held && !kernel_has_cdevs()))
		return space_create_type1(cpr, table);
	if (held)
		return space_create_iommufd(cpr, table, held);

	fd = iommufd_create(cpr);
	if (fd < 0)
		return backend == VFIO_CPR_BACKEND_AUTO ? space_create_type1(cpr, table) : fd;
	context = object_new(OBJECT_IOMMUFD, IOMMUFD_NAME);
	object_set_fd(context, 0, fd);
	r = space_create_iommufd(cpr, table, context);
	if (r == 0)
		context = NULL;
	return r;
}

int vfio_cpr_space_get(struct vfio_cpr *cpr, const char *name, enum vfio_cpr_backend backend,
		       struct vfio_cpr_space **ret_space)
{
	struct vfio_cpr_space *space;
	struct object *table;
	auto_object fresh = NULL;
	int fd, r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "an address space", name);
	if (r < 0)
		return r;
	if (backend != VFIO_CPR_BACKEND_AUTO && backend != VFIO_CPR_BACKEND_TYPE1 &&
	    backend != VFIO_CPR_BACKEND_IOMMUFD)
		return cpr_fail(cpr, -EINVAL, "address space %s: unknown backend %d", name,
				backend);

	table = inventory_find(cpr, OBJECT_TABLE, name);
	if (!table) {
		fd = table_create(TABLE_SLOTS);
		if (fd < 0)
			return cpr_fail(cpr, fd, "cannot make the mapping table of space %s: %s",
					name, g_strerror(-fd));
		table = fresh = object_new(OBJECT_TABLE, name);
		object_set_fd(fresh, 0, fd);
		r = space_create(cpr, fresh, backend);
		if (r < 0)
			return r;
		fresh = NULL;
	}

	space = g_hash_table_lookup(cpr->spaces, name);
	if (!space) {
		r = space_open(cpr, table, &space);
		if (r < 0)
			return r;
	}
	g_assert(space);
	if (backend != VFIO_CPR_BACKEND_AUTO && backend != space->backend)
		return cpr_fail(cpr, -EINVAL,
				"address space %s of this session is %s: ask for that or AUTO, or "
				"release the session",
				name, backend_name(space->backend));
	*ret_space = space;
	return 0;
}

enum vfio_cpr_backend vfio_cpr_space_backend(const struct vfio_cpr_space *space)
{
	return space->backend;
}

int vfio_cpr_space_fd(const struct vfio_cpr_space *space)
{
	return object_fd(space->context, 0);
}

uint32_t vfio_cpr_space_ioas_id(const struct vfio_cpr_space *space)
{
	return space->backend == VFIO_CPR_BACKEND_IOMMUFD ? space->table_object->attributes.ioas_id
							  : 0;
}
