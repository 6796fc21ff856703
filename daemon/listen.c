/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket of --socket: daemon/listen.h. */
#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/log.h"

/*
 * The backlog is one queue for all users, and each connection in it that was given up takes the loop
 * some 15 us. So it is as short as can be, and clients wait in connect(), where a user has no more
 * places than threads. The same as Backlog= of systemd/vfio-cprd.socket.
 */
#define BACKLOG 1

/*
 * Whether a socket that exists has nobody behind it: left by a daemon that died. One whose backlog
 * is full answers EAGAIN.
 */
static bool is_stale(const struct sockaddr_un *address)
{
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	/* What is no socket refuses connections too, and is somebody's file. */
	return fd >= 0 && lstat(address->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	       errno == ECONNREFUSED;
}

/* On a machine without systemd nobody has made /run/vfio-cprd. */
static void make_folder(const char *path)
{
	g_autofree char *folder = g_path_get_dirname(path);

	if (mkdir(folder, 0755) < 0 && errno != EEXIST)
		log_debug(NULL, "cannot make %s: %s", folder, g_strerror(errno));
}

static bool is_at(int fd, const char *path)
{
	struct stat opened, there;

	return fstat(fd, &opened) == 0 && lstat(path, &there) == 0 &&
	       opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

/*
 * Between the look at what is there and the listening another daemon would take this one's socket
 * for a stale one, and this one the other's. So they do it one by one: who has the lock, a file
 * beside the socket, removes it in the end. -EWOULDBLOCK: another one has it.
 */
static int lock(const char *path)
{
	for (;;) {
		auto_fd fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
			return -errno;
		/* Else it was removed meanwhile, and the lock is another file now. */
		if (is_at(fd, path))
			return fd_take(&fd);
	}
}

static int bind_and_listen(int fd, const struct sockaddr_un *address, mode_t mode)
{
	mode_t mask = umask(0777 & ~mode);
	int r = 0;

	if (is_stale(address))
		unlink(address->sun_path);
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ||
	    listen(fd, BACKLOG) < 0)
		r = -errno;
	umask(mask);
	return r;
}

static int fail(const char *path, const char *problem)
{
	log_error(NULL, "cannot listen on %s: %s", path, problem);
	return -1;
}

/* -errno: it cannot, for want of the lock. */
static int listen_locked(int fd, const struct sockaddr_un *address, mode_t mode, int *ret_result)
{
	g_autofree char *lock_path = g_strconcat(address->sun_path, ".lock", NULL);
	auto_fd held = lock(lock_path);

	if (held < 0)
		return held;
	*ret_result = bind_and_listen(fd, address, mode);
	unlink(lock_path);
	return 0;
}

int listen_at(const char *path, mode_t mode, struct own_socket *ret_own)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	int r, result = 0;

	if (fd < 0)
		return fail(path, g_strerror(errno));
	if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path))
		return fail(path, g_strerror(ENAMETOOLONG));
	make_folder(path);
	r = listen_locked(fd, &address, mode, &result);
	if (r == -EWOULDBLOCK)
		return fail(path, "in use: another daemon is starting there");
	if (r < 0) {
		g_autofree char *problem =
			g_strdup_printf("%s (of its lock, %s.lock)", g_strerror(-r), path);

		return fail(path, problem);
	}
	if (result < 0)
		return fail(path, g_strerror(-result));
	if (lstat(path, &st) == 0)
		*ret_own = (struct own_socket){path, st.st_dev, st.st_ino};
	return fd_take(&fd);
}

void listen_end(const struct own_socket *own)
{
	struct stat st;

	if (own->path && lstat(own->path, &st) == 0 && st.st_dev == own->dev &&
	    st.st_ino == own->ino)
		unlink(own->path);
}
