/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a descriptor is: daemon/identify.h. First how it was opened: an O_PATH descriptor looks like
 * the file it is of, and is none. Then what cannot be forged (the inode's type, the device number,
 * the link of an anonymous inode), then a question that only that class answers, since VFIO and
 * iommufd share their ioctl numbers with others.
 *
 * What waits for what, by the kernel's sources (Linux 6.1 to 7.0). In the loop, and why nobody can
 * hold it up:
 *	io_submit() of nothing (daemon/eventfdcheck.c), F_GETFL, F_DUPFD_QUERY read the struct file; no
 *		lock
 *	readlinkat() of	/proc/self/fd/N by the directory that is kept open: that directory's lock, which
 *		needs a descriptor of it (daemon/fdinfo.h), and spinlocks of the dentry cache
 *		(proc_pid_readlink(), d_path()); the file system of a path is not asked
 *	kcmp()	exec_update_lock for reading; for writing only this process's own execve() takes it
 *	openat(), read() of fdinfo: its directory's lock, and the wait queue's spinlock of an eventfd
 *	poll() of an eventfd: that spinlock
 * Elsewhere (identify_refusal(), daemon/look.c):
 *	VFIO_GROUP_GET_STATUS	group_lock, over the reset in another's VFIO_GROUP_GET_DEVICE_FD
 *	VFIO_DEVICE_GET_INFO	resumes a device that sleeps; answers once a reset is over
 *	a link in /sys	of a VFIO cdev alone, as its directory's lock is one that anybody can hold
 *	statx(), fstat(), F_GET_SEALS, VFIO_GET_API_VERSION, IOMMU_OPTION take no lock, but what asks for
 *		them asks for the rest as well
 * Nowhere: F_ADD_SEALS waits for the inode's lock (memfd_add_seals()), which a write() from a page of a
 *	FUSE file holds as long as that file's owner likes, and no signal ends that wait: a process with
 *	such a thread cannot exit, and no other could be started in its place. Its owner seals it.
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
#include "daemon/devnumbers.h"
#include "daemon/fdinfo.h"
#include "daemon/kernel.h"

#define MISC_MAJOR   10
#define VFIO_MINOR   196 /* include/linux/miscdevice.h */
#define KVM_MINOR    232
#define EVENTFD_LINK "anon_inode:[eventfd]"
#define STATE_SEALS  (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* What a descriptor looks like, without asking its driver or file system. */
struct appearance {
	int flags; /* of its open() */
	struct statx st;
	char link[256]; /* "anon_inode:[eventfd]", or a path, which proves nothing */
	bool is_iommufd, is_group, is_cdev; /* of a character device: by its number */
	char parent[64]; /* of a cdev: the PCI address its device sits on, or "" */
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

static void look_at_device(struct appearance *what)
{
	unsigned int major = what->st.stx_rdev_major, minor = what->st.stx_rdev_minor;
	char path[96];

	what->is_iommufd = devnumbers_is_misc(major, minor, "iommu");
	what->is_group = devnumbers_is_driver(major, "vfio");
	what->is_cdev = devnumbers_is_driver(major, "vfio-dev");
	/* For the lock of this directory only those can have it wait who have such a device. */
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/device", major, minor);
	if (what->is_cdev)
		link_name(path, what->parent, sizeof(what->parent));
}

/* DONT_SYNC: a FUSE or network file system answers from its cache, or could hang us. */
static int ask_inode(int fd, struct statx *ret)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, ret) < 0
		       ? -errno
		       : 0;
}

static int look(int fd, struct appearance *ret)
{
	int r;

	*ret = (struct appearance){.flags = kernel->open_flags(fd)};
	if (ret->flags < 0)
		return ret->flags;
	r = ask_inode(fd, &ret->st);
	if (r == 0)
		r = fdinfo_link(fd, ret->link, sizeof(ret->link));
	if (r < 0)
		return r;
	if (S_ISCHR(ret->st.stx_mode))
		look_at_device(ret);
	return 0;
}

static bool is_misc(const struct appearance *what, unsigned int minor)
{
	return S_ISCHR(what->st.stx_mode) && what->st.stx_rdev_major == MISC_MAJOR &&
	       what->st.stx_rdev_minor == minor;
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
	if (what->is_iommufd)
		return "an iommufd";
	if (what->is_group)
		return "a VFIO group";
	if (what->is_cdev || is_anon(what, "anon_inode:[vfio-device]"))
		return "a VFIO device";
	if (is_anon(what, EVENTFD_LINK))
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
	int r;

	if (what->is_cdev) {
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
	r = kernel->device_probe(fd);
	if (r < 0)
		return g_strdup_printf("a VFIO device that does not answer (%s): look whether it "
				       "is still there",
				       g_strerror(-r));
	/* Linux 6.18 tells which device it is; before, its owner's word is all there is. */
	if (fdinfo_field(fd, "vfio-device-syspath:", path, sizeof(path))) {
		slash = strrchr(path, '/');
		if (slash && g_ascii_strcasecmp(slash + 1, name) != 0)
			return g_strdup_printf("the device %s: name it so", slash + 1);
	}
	return NULL;
}

static char *check_iommufd(int fd, const struct appearance *what)
{
	int r;

	if (!what->is_iommufd)
		return g_strdup("");
	r = kernel->iommufd_probe(fd);
	return r == 0 ? NULL
		      : g_strdup_printf("an iommufd that does not answer IOMMU_OPTION (%s): open "
					"/dev/iommu anew",
					g_strerror(-r));
}

static char *check_memory(int fd, const struct appearance *what)
{
	/* Only shmem and hugetlbfs have seals, so this also says that no other file system is asked. */
	if (!S_ISREG(what->st.stx_mode) || fcntl(fd, F_GET_SEALS) < 0)
		return g_strdup("");
	if ((what->flags & O_ACCMODE) != O_RDWR)
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
		return what->is_group && kernel->group_status(fd) >= 0 ? NULL : g_strdup("");
	case OBJECT_DEVICE:
		return check_device(fd, what, name);
	case OBJECT_IOMMUFD:
		return check_iommufd(fd, what);
	case OBJECT_MEMORY:
	case OBJECT_TABLE:
		return check_memory(fd, what);
	case OBJECT_EVENTFD:
		return is_anon(what, EVENTFD_LINK) ? NULL : g_strdup("");
	case OBJECT_STATE:
		return check_state(fd, what);
	}
	return g_strdup("");
}

/* For the refusal of a descriptor that cannot be looked at. */
static char *explain(int error)
{
	int r = fdinfo_begin();

	/* ENOENT: there is a folder, but not the kernel's. */
	if (r < 0 || error == -ENOENT)
		return g_strdup_printf("/proc is not mounted where vfio-cprd runs, or not usable "
				       "(%s), and nothing tells what a descriptor is: mount it and "
				       "restart vfio-cprd",
				       g_strerror(r < 0 ? -r : ENOENT));
	return g_strdup_printf("cannot look at the descriptor: %s", g_strerror(-error));
}

/*
 * Nothing else has that link, and no anonymous inode can be opened a second time. So it is an open
 * eventfd, unless it is an O_PATH descriptor of one.
 */
static bool has_eventfd_link(int fd)
{
	char link[sizeof(EVENTFD_LINK) + 1];
	int flags = kernel->open_flags(fd);

	return flags >= 0 && !(flags & O_PATH) && fdinfo_link(fd, link, sizeof(link)) == 0 &&
	       strcmp(link, EVENTFD_LINK) == 0;
}

bool identify_eventfd(int fd)
{
	int r = kernel->is_eventfd(fd);

	return r >= 0 ? r : has_eventfd_link(fd);
}

char *identify_refusal(int fd, enum object_kind kind, const char *name)
{
	struct appearance what;
	g_autofree char *reason = NULL;
	int r = look(fd, &what);

	if (r < 0) {
		reason = explain(r);
		return g_strdup_printf("%s %s is refused: %s", object_kind_name(kind), name,
				       reason);
	}
	reason =
		what.flags & O_PATH
			? g_strdup("opened with O_PATH, which is no open file: nothing can be done "
				   "by it, and nothing would be held. Open it without O_PATH")
			: check(fd, kind, name, &what);
	if (!reason)
		return NULL;
	return g_strdup_printf("%s %s is refused: the descriptor is %s", object_kind_name(kind),
			       name, reason[0] ? reason : describe(&what));
}

/* As far as the kernel tells without being asked for open files: the same eventfd, or inode. */
static bool is_same_inode(int a, int b)
{
	char link_a[256], link_b[256], id_a[32], id_b[32];
	struct statx x, y;

	if (fdinfo_link(a, link_a, sizeof(link_a)) < 0 ||
	    fdinfo_link(b, link_b, sizeof(link_b)) < 0 || strcmp(link_a, link_b) != 0)
		return false;
	if (strcmp(link_a, EVENTFD_LINK) == 0)
		return fdinfo_field(a, "eventfd-id:", id_a, sizeof(id_a)) &&
		       fdinfo_field(b, "eventfd-id:", id_b, sizeof(id_b)) &&
		       strcmp(id_a, id_b) == 0;
	return ask_inode(a, &x) == 0 && ask_inode(b, &y) == 0 && x.stx_ino == y.stx_ino &&
	       x.stx_dev_major == y.stx_dev_major && x.stx_dev_minor == y.stx_dev_minor;
}

bool identify_same(int a, int b)
{
	int r = kernel->same_file(a, b);

	return r >= 0 ? r : is_same_inode(a, b);
}
