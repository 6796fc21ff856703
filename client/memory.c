/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that a new process can map again. The kernel never checks what a new DMA address points
 * to, so identity is this file's business: the library maps the session's own file, or proves from
 * /proc/self/maps that the VMM did.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "client/cpr.h"
#include "client/inventory.h"
#include "common/fd.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define MEMFD_NAME_MAX 249 /* mm/memfd.c */

int memory_wrap(struct vfio_cpr *cpr, struct object *object, struct vfio_cpr_memory **ret_memory)
{
	struct vfio_cpr_memory *memory = g_hash_table_lookup(cpr->memories, object->name);
	struct stat st;

	if (!memory) {
		if (fstat(object_fd(object, 0), &st) < 0)
			return cpr_fail(cpr, -errno, "cannot stat memory %s: %s", object->name,
					g_strerror(errno));
		memory = g_new0(struct vfio_cpr_memory, 1);
		memory->cpr = cpr;
		memory->object = object;
		memory->size = st.st_size;
		g_hash_table_insert(cpr->memories, object->name, memory);
	}
	*ret_memory = memory;
	return 0;
}

void memory_free(struct vfio_cpr_memory *memory)
{
	if (memory->addr_is_ours)
		munmap(memory->addr, memory->size);
	g_free(memory);
}

/* Stores fd as memory of that name. fd is consumed on success. */
static int memory_store(struct vfio_cpr *cpr, const char *name, int fd,
			struct vfio_cpr_memory **ret_memory)
{
	struct object *object = object_new(OBJECT_MEMORY, name);
	int r;

	object_set_fd(object, 0, fd);
	r = inventory_store(cpr, &object, 1);
	if (r < 0) {
		object_set_fd(object, 0, -1);
		object_free(object);
		return r;
	}
	return memory_wrap(cpr, object, ret_memory);
}

static int memory_create(struct vfio_cpr *cpr, const char *name, uint64_t size, uint32_t flags)
{
	g_autofree char *label = g_strndup(name, MEMFD_NAME_MAX);
	unsigned int how = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	auto_fd fd = -1;

	if (flags & VFIO_CPR_MEMORY_HUGETLB)
		how |= MFD_HUGETLB;
	fd = memfd_create(label, how | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(label, how); /* before Linux 6.3 */
	if (fd < 0)
		return cpr_fail(
			cpr, -errno, "cannot create memory %s: %s%s", name, g_strerror(errno),
			flags & VFIO_CPR_MEMORY_HUGETLB ? ": check that the kernel has hugetlbfs"
							: "");
	if (ftruncate(fd, size) < 0)
		return cpr_fail(cpr, -errno,
				"cannot give memory %s %" PRIu64
				" bytes: %s: with huge pages it must "
				"be a multiple of their size",
				name, size, g_strerror(errno));
	/* After a truncation a device would go on writing to pages that left the file. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return cpr_fail(cpr, -errno, "cannot seal memory %s: %s", name, g_strerror(errno));
	return fd_take(&fd);
}

int vfio_cpr_memory_get(struct vfio_cpr *cpr, const char *name, uint64_t size, uint32_t flags,
			struct vfio_cpr_memory **ret_memory)
{
	struct vfio_cpr_memory *memory = NULL;
	struct object *object;
	auto_fd fd = -1;
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "memory", name);
	if (r < 0)
		return r;
	if (flags & ~VFIO_CPR_MEMORY_HUGETLB)
		return cpr_fail(cpr, -EINVAL, "memory %s: unknown flags 0x%x", name, flags);
	if (size == 0 || size % cpr->page_size != 0 || size > INT64_MAX)
		return cpr_fail(cpr, -EINVAL,
				"memory %s: %" PRIu64 " bytes are no multiple of the page size",
				name, size);

	object = inventory_find(cpr, OBJECT_MEMORY, name);
	if (object) {
		r = memory_wrap(cpr, object, &memory);
		if (r < 0)
			return r;
		g_assert(memory);
		if (memory->size != size)
			return cpr_fail(
				cpr, -EINVAL,
				"memory %s has %" PRIu64 " bytes, not %" PRIu64
				": start with the predecessor's size, or release the session",
				name, memory->size, size);
		*ret_memory = memory;
		return 0;
	}

	fd = memory_create(cpr, name, size, flags);
	if (fd < 0)
		return fd;
	r = memory_store(cpr, name, fd, ret_memory);
	if (r == 0)
		fd_take(&fd);
	return r;
}

int vfio_cpr_memory_import(struct vfio_cpr *cpr, const char *name, int fd,
			   struct vfio_cpr_memory **ret_memory)
{
	struct object *object;
	struct statfs fs;
	struct stat st;
	int flags, r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "memory", name);
	if (r < 0)
		return r;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return cpr_fail(cpr, -errno, "cannot look at the file for memory %s: %s", name,
				g_strerror(errno));
	if (!S_ISREG(st.st_mode) || (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC))
		return cpr_fail(cpr, -EINVAL,
				"memory %s must be a memfd or a file of tmpfs or hugetlbfs: a new "
				"process could not map anything else again",
				name);
	if ((flags & O_ACCMODE) != O_RDWR || st.st_size == 0)
		return cpr_fail(cpr, -EINVAL,
				"memory %s must be open for reading and writing, and not empty",
				name);

	object = inventory_find(cpr, OBJECT_MEMORY, name);
	if (object) {
		struct stat held;

		if (fstat(object_fd(object, 0), &held) < 0 || held.st_dev != st.st_dev ||
		    held.st_ino != st.st_ino)
			return cpr_fail(cpr, -EEXIST,
					"memory %s of the session is another file: take that by "
					"vfio_cpr_memory_find(), or choose another name",
					name);
		r = memory_wrap(cpr, object, ret_memory);
		if (r == 0 && fd != object_fd(object, 0))
			close(fd);
		return r;
	}

	/* A tmpfs or hugetlbfs file can not be sealed: vfio_cpr_blockers() tells. */
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	return memory_store(cpr, name, fd, ret_memory);
}

int vfio_cpr_memory_find(struct vfio_cpr *cpr, const char *name,
			 struct vfio_cpr_memory **ret_memory)
{
	struct object *object;
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "memory", name);
	if (r < 0)
		return r;
	object = inventory_find(cpr, OBJECT_MEMORY, name);
	if (!object)
		return cpr_fail(cpr, -ENOENT, "the session has no memory %s", name);
	return memory_wrap(cpr, object, ret_memory);
}

int vfio_cpr_memory_fd(const struct vfio_cpr_memory *memory)
{
	return object_fd(memory->object, 0);
}

uint64_t vfio_cpr_memory_size(const struct vfio_cpr_memory *memory)
{
	return memory->size;
}

bool vfio_cpr_memory_is_restored(const struct vfio_cpr_memory *memory)
{
	return memory->object->restored;
}

int vfio_cpr_memory_map(struct vfio_cpr_memory *memory, void **ret_addr)
{
	struct vfio_cpr *cpr = memory->cpr;
	void *addr;
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	if (!memory->addr) {
		addr = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    object_fd(memory->object, 0), 0);
		if (addr == MAP_FAILED)
			return cpr_fail(cpr, -errno,
					"cannot map %" PRIu64 " bytes of memory %s: %s",
					memory->size, memory->object->name, g_strerror(errno));
		memory->addr = addr;
		memory->addr_is_ours = true;
	}
	if (ret_addr)
		*ret_addr = memory->addr;
	return 0;
}

/* Whether [addr, addr + size) is the file st from offset 0 on, MAP_SHARED, readable and writable. */
static bool maps_hold(const char *maps, const struct stat *st, uint64_t addr, uint64_t size)
{
	uint64_t at = addr;

	for (const char *line = maps; line && *line;) {
		unsigned long long start, end, offset, inode;
		unsigned int device_major, device_minor;
		char perms[5];

		if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu", &start, &end, perms, &offset,
			   &device_major, &device_minor, &inode) == 7 &&
		    start <= at && at < end) {
			if (makedev(device_major, device_minor) != st->st_dev ||
			    inode != st->st_ino || perms[0] != 'r' || perms[1] != 'w' ||
			    perms[3] != 's' || offset + (at - start) != at - addr)
				return false;
			at = end;
			if (at - addr >= size)
				return true;
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return false;
}

int vfio_cpr_memory_set_addr(struct vfio_cpr_memory *memory, void *addr)
{
	struct vfio_cpr *cpr = memory->cpr;
	g_autofree char *maps = NULL;
	struct stat st;
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	if (memory->addr == addr && addr)
		return 0;
	if (memory->addr)
		return cpr_fail(cpr, -EEXIST,
				"memory %s is in use at %p: set its address before "
				"anything maps it",
				memory->object->name, memory->addr);
	if (!g_file_get_contents("/proc/self/maps", &maps, NULL, NULL) ||
	    fstat(object_fd(memory->object, 0), &st) < 0)
		return cpr_fail(cpr, -EIO,
				"cannot check memory %s: /proc/self/maps is not readable",
				memory->object->name);
	if (!maps_hold(maps, &st, (uintptr_t)addr, memory->size))
		return cpr_fail(
			cpr, -EINVAL,
			"at %p there is no whole, shared, writable mapping of memory %s: mmap "
			"vfio_cpr_memory_fd() from offset 0 with MAP_SHARED",
			addr, memory->object->name);
	memory->addr = addr;
	return 0;
}
