/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A made up kernel: tests/fuzz/kernel.h. By far most of what the daemon asks is answered by the one that
 * there is: messages, sockets, memfds and eventfds are real.
 */
#include "tests/fuzz/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/table.h"
#include "daemon/devnumbers.h"
#include "daemon/kernel.h"
#include "daemon/process.h"
#include "tests/fuzz/systemd.h"
#include "tests/fuzz/world.h"

#define FAKE_BYTES \
	(1 << 20) /* and the letter: the size of a memfd that looks like something else */

#define NSEC	   1000000000LL
#define START_NSEC (1000000 * NSEC)

static struct {
	int socket, life; /* offered */
	pid_t pid;
	uid_t uid;
	unsigned int break_after; /* the call after so many more fails; 0: none does */
	bool has_broken;
	gint64 nsec; /* since the machine's start */
} fake = {.socket = -1, .life = -1, .nsec = START_NSEC};

/* What is no real descriptor of its kind; a link proves what the daemon sees in /proc and /sys. */
static const struct guise {
	char letter;
	unsigned int major, minor; /* 0: no character device */
	const char *link;	   /* of /proc/self/fd */
	const char *driver, *misc; /* in /proc/devices, /proc/misc */
	const char *parent;	   /* in /sys */
} guises[] = {
	{'c', 10, 196, "/dev/vfio/vfio", "misc", "vfio", ""},
	{'i', 10, 125, "/dev/iommu", "misc", "iommu", ""},
	{'g', 240, 0, "/dev/vfio/26", "vfio", "", ""},
	{'d', 0, 0, "anon_inode:[vfio-device]", "", "", ""},
	{'D', 241, 1, "/dev/vfio/devices/vfio1", "vfio-dev", "", "../../../0000:00:01.0"},
	{'k', 10, 232, "/dev/kvm", "misc", "kvm", ""},
};

/* The kernel table */

static bool is_broken(void)
{
	if (fake.break_after == 0 || --fake.break_after > 0)
		return false;
	fake.has_broken = true;
	return true;
}

static int ask_vfio(int fd)
{
	(void)fd;
	return is_broken() ? -ENOTTY : 0;
}

static int probe_iommufd(int fd)
{
	struct stat st;

	if (is_broken() || fstat(fd, &st) < 0)
		return -EIO;
	return st.st_size == (FAKE_BYTES | 'i') ? 0 : -ENOTTY;
}

static int is_eventfd(int fd)
{
	return is_broken() ? -EINVAL : kernel_real.is_eventfd(fd);
}

static int unmap_vaddr(int container, bool all, uint64_t iova, uint64_t size, uint64_t *ret_size)
{
	(void)container;
	(void)iova;
	if (is_broken())
		return all ? -EINVAL : -EIO;
	*ret_size = all ? 4096 : size;
	return 0;
}

static int change_process(int iommufd)
{
	(void)iommufd;
	return is_broken() ? -ENOMEM : 0;
}

static int same_file(int a, int b)
{
	return is_broken() ? -EPERM : kernel_real.same_file(a, b);
}

static int accept_offered(int listener)
{
	int socket = fake.socket;
	eventfd_t count;

	if (socket >= 0 && is_broken())
		return -EMFILE;
	eventfd_read(listener, &count);
	fake.socket = -1;
	return socket >= 0 ? socket : -EAGAIN;
}

static int peer_pidfd(int socket, pid_t pid)
{
	int fd;

	(void)socket;
	(void)pid;
	if (is_broken())
		return -EMFILE;
	fd = fcntl(fake.life, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static int same_process(int a, int b)
{
	return process_lives(a) ? kernel_real.same_file(a, b) : 0;
}

void kernel_init(void)
{
	static struct kernel_ops ops;

	ops = kernel_real;
	ops.unmap_vaddr = unmap_vaddr;
	ops.change_process = change_process;
	ops.container_version = ask_vfio;
	ops.iommufd_probe = probe_iommufd;
	ops.is_eventfd = is_eventfd;
	ops.device_probe = ask_vfio;
	ops.group_status = ask_vfio;
	ops.same_file = same_file;
	ops.peer_pidfd = peer_pidfd;
	ops.same_process = same_process;
	ops.accept = accept_offered;
	kernel = &ops;
}

void kernel_begin(void)
{
	fake.break_after = 0;
	fake.has_broken = false;
}

bool kernel_has_broken(void)
{
	return fake.has_broken;
}

void world_break_kernel(unsigned int after)
{
	fake.break_after = after;
}

void kernel_offer(int socket, pid_t pid, uid_t uid, int life)
{
	fake.socket = socket;
	fake.pid = pid;
	fake.uid = uid;
	fake.life = life;
}

void kernel_take_back(void)
{
	fd_close(&fake.socket);
}

/* What is linked in the place of the daemon's own calls (--wrap) */

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int __real_statx(int fd, const char *path, int flags, unsigned int mask, struct statx *ret);
int __wrap_statx(int fd, const char *path, int flags, unsigned int mask, struct statx *ret);
ssize_t __real_readlinkat(int folder, const char *path, char *ret, size_t size);
ssize_t __wrap_readlinkat(int folder, const char *path, char *ret, size_t size);
ssize_t __real_readlink(const char *path, char *ret, size_t size);
ssize_t __wrap_readlink(const char *path, char *ret, size_t size);

/* Who the peer is. */
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	struct ucred *credentials = value;

	if (level != SOL_SOCKET || name != SO_PEERCRED)
		return __real_getsockopt(fd, level, name, value, length);
	*credentials = (struct ucred){.pid = fake.pid, .uid = fake.uid, .gid = fake.uid};
	return 0;
}

static const struct guise *guise_of(char letter)
{
	for (size_t i = 0; i < G_N_ELEMENTS(guises); i++)
		if (guises[i].letter == letter)
			return &guises[i];
	return NULL;
}

int __wrap_statx(int fd, const char *path, int flags, unsigned int mask, struct statx *ret)
{
	int r = __real_statx(fd, path, flags, mask | STATX_SIZE, ret);
	const struct guise *guise = NULL;

	if (r == 0 && (ret->stx_size & ~0xffULL) == FAKE_BYTES)
		guise = guise_of((char)ret->stx_size);
	if (!guise)
		return r;
	ret->stx_mode = guise->major ? S_IFCHR : 0;
	ret->stx_rdev_major = guise->major;
	ret->stx_rdev_minor = guise->minor;
	return 0;
}

static ssize_t give(const char *target, char *ret, size_t size)
{
	size_t n = MIN(strlen(target), size);

	memcpy(ret, target, n);
	return n;
}

ssize_t __wrap_readlinkat(int folder, const char *path, char *ret, size_t size)
{
	static const char name[] = "/memfd:guise-";
	ssize_t n = __real_readlinkat(folder, path, ret, size);
	const struct guise *guise = NULL;

	if (n > (ssize_t)strlen(name) && strncmp(ret, name, strlen(name)) == 0)
		guise = guise_of(ret[strlen(name)]);
	return guise ? give(guise->link, ret, size) : n;
}

/* Of a device's cdev it is asked in /sys on which PCI device it sits. */
ssize_t __wrap_readlink(const char *path, char *ret, size_t size)
{
	unsigned int major, minor;
	int end = 0;

	if (sscanf(path, "/sys/dev/char/%u:%u/device%n", &major, &minor, &end) < 2 || end == 0)
		return __real_readlink(path, ret, size);
	for (size_t i = 0; i < G_N_ELEMENTS(guises); i++)
		if (guises[i].major == major && guises[i].minor == minor)
			return give(guises[i].parent, ret, size);
	errno = ENOENT;
	return -1;
}

/* daemon/devnumbers.h, linked in the place of the daemon's. */

bool devnumbers_begin(void)
{
	return true;
}

void devnumbers_end(void)
{
}

bool devnumbers_is_driver(unsigned int major_number, const char *driver)
{
	for (size_t i = 0; i < G_N_ELEMENTS(guises); i++)
		if (guises[i].major == major_number && strcmp(guises[i].driver, driver) == 0)
			return true;
	return false;
}

bool devnumbers_is_misc(unsigned int major_number, unsigned int minor_number, const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(guises); i++)
		if (guises[i].major == major_number && guises[i].minor == minor_number &&
		    strcmp(guises[i].misc, name) == 0)
			return true;
	return false;
}

/*
 * In the place of the C library's, for libevent and GLib too: time goes on by being asked for, and by
 * being passed over. So an input is the same each time, however busy the machine is.
 */
__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	if (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE)
		return syscall(SYS_clock_gettime, clock, ret_time);
	fake.nsec += 1000;
	*ret_time = (struct timespec){fake.nsec / NSEC, fake.nsec % NSEC};
	return 0;
}

/* And g_usleep()'s. */
__attribute__((visibility("default"))) int nanosleep(const struct timespec *time,
						     struct timespec *ret_rest)
{
	(void)ret_rest;
	fake.nsec += time->tv_sec * NSEC + time->tv_nsec;
	return 0;
}

void kernel_pass(unsigned int seconds)
{
	fake.nsec += seconds * NSEC;
}

/* Descriptors */

static int make_memfd(const char *name, off_t size, int seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (ftruncate(fd, size) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0))
		fd_close(&fd);
	return fd;
}

/* One mapping, as the library would have written it. */
static int make_table(void)
{
	const struct table_slot slot = {.state = TABLE_MAPPED, .iova = 4096, .size = 8192};
	struct table table = {0};
	int fd = table_create(64);

	if (fd >= 0 && table_open(fd, true, &table) == 0) {
		table.slots[0] = slot;
		table.header->used = 1;
		table_close(&table);
	}
	return fd;
}

static int make_disguised(const struct guise *guise)
{
	char name[] = "guise-?";

	name[strlen("guise-")] = guise->letter;
	return make_memfd(name, FAKE_BYTES | guise->letter, 0);
}

static int make_pipe(void)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	close(fds[1]);
	return fds[0];
}

int kernel_descriptor(char letter)
{
	switch (letter) {
	case 'm':
		return make_memfd("memory", 4096, F_SEAL_SHRINK);
	case 's':
		return make_memfd("state", 4096, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	case 't':
		return make_table();
	case 'o':
		return open("/dev/null", O_PATH | O_CLOEXEC);
	case 'p':
		return make_pipe();
	case 'u':
		return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case 'S':
		return systemd_sending_end();
	default:
		return guise_of(letter) ? make_disguised(guise_of(letter))
					: eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
}
