/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Four things look alike to connect() and need different remedies: a socket that was never made,
 * one whose file was deleted, one that nobody listens on any more, and one of somebody else's.
 */
#include "client/refusal.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vfio-cpr.h"

#define SOCKET_LISTENS 0x10000 /* __SO_ACCEPTCON, of the Flags in /proc/net/unix */

/* Whether a socket that was bound to this path listens still, its file being there or not. */
static bool is_listened_to(const char *path)
{
	g_autofree char *table = NULL;
	g_auto(GStrv) lines = NULL;

	if (!g_file_get_contents("/proc/net/unix", &table, NULL, NULL))
		return false;
	lines = g_strsplit(table, "\n", -1);
	for (char **line = lines; *line; line++) {
		unsigned int flags = 0;
		int end = 0;

		/* Num: RefCount Protocol Flags Type St Inode Path */
		if (sscanf(*line, "%*[^:]: %*x %*x %x %*x %*x %*u %n", &flags, &end) == 1 && end &&
		    (flags & SOCKET_LISTENS) && strcmp(*line + end, path) == 0)
			return true;
	}
	return false;
}

static char *tell_absent(const char *path, bool is_default)
{
	if (!is_listened_to(path))
		return g_strdup(
			is_default
				? "there is no such socket: 'systemctl enable --now "
				  "vfio-cprd.socket' makes it, now and at each boot; or name "
				  "another one in VFIO_CPR_SOCKET"
				: "there is no such socket: start vfio-cprd on it, or name another "
				  "one in VFIO_CPR_SOCKET");
	/* /proc/net/unix is per network namespace, and the files per mount namespace. */
	return g_strdup_printf(
		"the file is not there, while somebody listens on it: it was deleted, and %s; or "
		"this process has a root or /run of its own, which needs BindPaths=",
		is_default ? "'systemctl restart vfio-cprd.socket' makes it anew, by which no "
			     "session is lost"
			   : "a restart of the vfio-cprd that made it makes it anew");
}

static char *tell_refused(const char *path, bool is_default)
{
	struct stat status;

	if (stat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
		return g_strdup("that is no socket: name vfio-cprd's in VFIO_CPR_SOCKET");
	return g_strdup(is_default ? "nobody listens on it: 'systemctl enable --now "
				     "vfio-cprd.socket' does, now and at each boot"
				   : "nobody listens on it: the vfio-cprd that made it has ended; "
				     "start it again");
}

static char *tell_forbidden(const char *path)
{
	struct stat status;

	if (stat(path, &status) < 0)
		return g_strdup("this user may not search its directory: be root, or name another "
				"socket in VFIO_CPR_SOCKET");
	return g_strdup_printf(
		"this user may not write to it (it is user %u's and group %u's, mode %04o): be "
		"root or in that group; SocketMode= and SocketGroup= of vfio-cprd.socket say who "
		"may",
		status.st_uid, status.st_gid, status.st_mode & 07777);
}

char *refusal_tell(const char *path, int error)
{
	bool is_default = strcmp(path, VFIO_CPR_SOCKET) == 0;

	switch (error) {
	case -ENOENT:
		return tell_absent(path, is_default);
	case -ECONNREFUSED:
		return tell_refused(path, is_default);
	case -EACCES:
		return tell_forbidden(path);
	case -EAGAIN:
		return g_strdup("more connections wait there than it takes: try again; 'systemctl "
				"status vfio-cprd' may tell what keeps it");
	case -EINVAL:
	case -ENAMETOOLONG:
		return g_strdup("the path of a unix socket has 1 to 107 bytes");
	default:
		return g_strdup(g_strerror(-error));
	}
}
