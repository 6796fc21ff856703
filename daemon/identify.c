/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a descriptor is: daemon/identify.h. First what cannot be forged (the inode's type, the
 * device number, the link of an anonymous inode), then a question that only that class is asked,
 * since VFIO and iommufd share their ioctl numbers with others.
 */
#include "daemon/identify.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/fdinfo.h"
#include "daemon/kernel.h"

#define MISC_MAJOR  10
#define VFIO_MINOR  196 /* include/linux/miscdevice.h */
#define KVM_MINOR   232
#define STATE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* What a descriptor looks like, without asking its driver or file system. */
struct appearance {
	struct statx st;
	char link[256];	    /* "anon_inode:[eventfd]", or a path, which proves nothing */
	char subsystem[64]; /* of a character device: "vfio", "vfio-dev", "misc", ... */
	char device[64];    /* of a character device: its name in sysfs, "iommu", "vfio0", ... */
	char parent[64];    /* of a character device: the PCI address its device sits on, or "" */
};

/* The last part of the symbolic link at path, or "". */
static void link_name(const char *path, char *ret_name, size_t size)
{
	char target[512];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	const char *slash;

	ret_name[0] = '\0';
	if (n < 0)
		return;
	target[n] = '\0';
	slash = strrchr(target, '/');
	g_strlcpy(ret_name, slash ? slash + 1 : target, size);
}

static int look(int fd, struct appearance *ret)
{
	char path[96];
	ssize_t n;

	*ret = (struct appearance){0};
	/* DONT_SYNC: a FUSE or network file system answers from its cache, or could hang us. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_SIZE | STATX_INO,
		  &ret->st) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, ret->link, sizeof(ret->link) - 1);
	ret->link[n > 0 ? n : 0] = '\0';
	if (S_ISCHR(ret->st.stx_mode)) {
		unsigned int major = ret->st.stx_rdev_major, minor = ret->st.stx_rdev_minor;

		snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", major, minor);
		link_name(path, ret->device, sizeof(ret->device));
		snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/subsystem", major, minor);
		link_name(path, ret->subsystem, sizeof(ret->subsystem));
		snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/device", major, minor);
		link_name(path, ret->parent, sizeof(ret->parent));
	}
	return 0;
}

static bool is_misc(const struct appearance *what, unsigned int minor)
{
	return S_ISCHR(what->st.stx_mode) && what->st.stx_rdev_major == MISC_MAJOR &&
	       what->st.stx_rdev_minor == minor;
}

static bool is_iommufd(const struct appearance *what)
{
	/* Its minor number is dynamic; sysfs knows the device by its number, under this name. */
	return strcmp(what->subsystem, "misc") == 0 && strcmp(what->device, "iommu") == 0;
}

static bool is_anon(const struct appearance *what, const char *link)
{
	/* A path starts with a slash, so no file can be named like an anonymous inode. */
	return strcmp(what->link, link) == 0;
}

/* What it is instead, for the refusal. */
static const char *describe(const struct appearance *what)
{
	if (is_misc(what, KVM_MINOR) || g_str_has_prefix(what->link, "anon_inode:kvm") ||
	    g_str_has_prefix(what->link, "anon_inode:[kvm"))
		return "a KVM descriptor. Held, it would keep the old VM's irqfds, and the new VM's "
		       "would fail with EBUSY: close it with the old VMM and make a new one";
	if (S_ISSOCK(what->st.stx_mode))
		return "a socket. Its peer is another process, which no restart keeps: connect anew";
	if (strstr(what->link, "[io_uring]"))
		return "an io_uring. It holds its maker's files and address space: make a new one";
	if (is_misc(what, VFIO_MINOR))
		return "a VFIO container";
	if (is_iommufd(what))
		return "an iommufd";
	if (strcmp(what->subsystem, "vfio") == 0)
		return "a VFIO group";
	if (strcmp(what->subsystem, "vfio-dev") == 0 || is_anon(what, "anon_inode:[vfio-device]"))
		return "a VFIO device";
	if (is_anon(what, "anon_inode:[eventfd]"))
		return "an eventfd";
	if (S_ISREG(what->st.stx_mode))
		return "a regular file";
	if (S_ISDIR(what->st.stx_mode))
		return "a directory";
	if (S_ISFIFO(what->st.stx_mode))
		return "a pipe";
	return "of a kind that the daemon does not know";
}

static char *check_container(int fd, const struct appearance *what)
{
	if (!is_misc(what, VFIO_MINOR))
		return g_strdup("");
	if (kernel->iommufd_probe(fd) == 0)
		return g_strdup(
			"iommufd's imitation of a container (CONFIG_IOMMUFD_VFIO_CONTAINER): it "
			"maps by pointer and knows no VFIO_UPDATE_VADDR, so its mappings can never "
			"be handed over. Use /dev/iommu itself");
	return kernel->container_version(fd) == 0 ? NULL : g_strdup("");
}

static char *check_device(int fd, const struct appearance *what, const char *name)
{
	char path[512], *slash;

	if (strcmp(what->subsystem, "vfio-dev") == 0) {
		if (what->parent[0] && g_ascii_strcasecmp(what->parent, name) != 0)
			return g_strdup_printf("the device %s: name it so", what->parent);
		if (kernel->device_probe(fd) < 0)
			return g_strdup(
				"a device cdev that is not bound to an iommufd. Unbound, it keeps "
				"nothing: bind it first");
		return NULL;
	}
	if (!is_anon(what, "anon_inode:[vfio-device]"))
		return g_strdup("");
	/* Linux 6.18 tells which device it is; before, its owner's word is all there is. */
	if (fdinfo_field(fd, "vfio-device-syspath:", path, sizeof(path))) {
		slash = strrchr(path, '/');
		if (slash && g_ascii_strcasecmp(slash + 1, name) != 0)
			return g_strdup_printf("the device %s: name it so", slash + 1);
	}
	return NULL;
}

static char *check_memory(int fd, const struct appearance *what)
{
	/* Only shmem and hugetlbfs have seals, so this also says that no other file system is asked. */
	if (!S_ISREG(what->st.stx_mode) || fcntl(fd, F_GET_SEALS) < 0)
		return g_strdup("");
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return g_strdup(
			"memory that is not open for reading and writing: a new VMM could not map "
			"it. Open it with O_RDWR");
	return NULL;
}

static char *check_state(int fd, const struct appearance *what)
{
	int seals = S_ISREG(what->st.stx_mode) ? fcntl(fd, F_GET_SEALS) : -1;

	if (seals < 0)
		return g_strdup("");
	if ((seals & STATE_SEALS) != STATE_SEALS)
		return g_strdup(
			"a memfd that can still change. Seal it with F_SEAL_SHRINK, F_SEAL_GROW "
			"and F_SEAL_WRITE");
	return NULL;
}

/* NULL: it is of that kind. "": it is not. Else: why one of that kind cannot be held. */
static char *check(int fd, enum object_kind kind, const char *name, const struct appearance *what)
{
	switch (kind) {
	case OBJECT_CONTAINER:
		return check_container(fd, what);
	case OBJECT_GROUP:
		return strcmp(what->subsystem, "vfio") == 0 && kernel->group_status(fd) >= 0
			       ? NULL
			       : g_strdup("");
	case OBJECT_DEVICE:
		return check_device(fd, what, name);
	case OBJECT_IOMMUFD:
		return is_iommufd(what) ? NULL : g_strdup("");
	case OBJECT_MEMORY:
	case OBJECT_TABLE:
		return check_memory(fd, what);
	case OBJECT_EVENTFD:
		return is_anon(what, "anon_inode:[eventfd]") ? NULL : g_strdup("");
	case OBJECT_STATE:
		return check_state(fd, what);
	}
	return g_strdup("");
}

char *identify_refusal(int fd, enum object_kind kind, const char *name)
{
	struct appearance what;
	g_autofree char *reason = NULL;
	int r = look(fd, &what);

	if (r < 0)
		return g_strdup_printf("%s %s: cannot look at the descriptor: %s",
				       object_kind_name(kind), name, g_strerror(-r));
	reason = check(fd, kind, name, &what);
	if (!reason)
		return NULL;
	return g_strdup_printf("%s %s is refused: the descriptor is %s", object_kind_name(kind),
			       name, reason[0] ? reason : describe(&what));
}

bool identify_same(int a, int b)
{
	struct appearance x, y;
	char id_x[32], id_y[32];
	int r = kernel->same_file(a, b);

	if (r >= 0)
		return r;
	if (look(a, &x) < 0 || look(b, &y) < 0 || strcmp(x.link, y.link) != 0)
		return false;
	if (is_anon(&x, "anon_inode:[eventfd]"))
		return fdinfo_field(a, "eventfd-id:", id_x, sizeof(id_x)) &&
		       fdinfo_field(b, "eventfd-id:", id_y, sizeof(id_y)) &&
		       strcmp(id_x, id_y) == 0;
	return x.st.stx_ino == y.st.stx_ino && x.st.stx_dev_major == y.st.stx_dev_major &&
	       x.st.stx_dev_minor == y.st.stx_dev_minor;
}
