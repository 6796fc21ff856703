/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is hidden from the daemon where it runs: daemon/surroundings.h. */
#include "daemon/surroundings.h"

#include <glib.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "common/fd.h"
#include "daemon/devnumbers.h"
#include "daemon/fdinfo.h"
#include "daemon/log.h"

#define OVERFLOW_UID 65534 /* the kernel's DEFAULT_OVERFLOWUID */

static bool is_user_namespace;
static uid_t overflow_uid = OVERFLOW_UID;

/* The map of the host, and of a namespace that changes nothing: each uid is itself. */
static bool is_whole(const char *map)
{
	unsigned int first, outside, count, more;

	return sscanf(map, "%u %u %u %u", &first, &outside, &count, &more) == 3 && first == 0 &&
	       outside == 0 && count == G_MAXUINT32;
}

/*
 * In a user namespace SO_PEERCRED has the overflow uid for each user that is not mapped:
 * from_kuid_munged(), in the kernel's cred_to_ucred(). Without /proc that may be so.
 */
static void look_at_users(void)
{
	g_autofree char *map = NULL, *overflow = NULL;

	if (g_file_get_contents("/proc/self/uid_map", &map, NULL, NULL))
		is_user_namespace = !is_whole(map);
	else
		/* A kernel without user namespaces has no map. */
		is_user_namespace = !g_file_test("/proc/self/status", G_FILE_TEST_EXISTS);
	if (g_file_get_contents("/proc/sys/kernel/overflowuid", &overflow, NULL, NULL))
		overflow_uid = g_ascii_strtoull(overflow, NULL, 10);
	if (map && is_user_namespace)
		log_warning(
			NULL,
			"it runs in a user namespace, where users that have no uid of their own are all "
			"uid %u: they are refused. Run vfio-cprd in the user namespace of the host",
			overflow_uid);
}

/* As what is stored is looked at later. */
static void look_at_descriptors(void)
{
	auto_fd fd = eventfd(0, EFD_CLOEXEC);
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
	g_autofree char *link = g_file_read_link(path, NULL);
	char count[32];

	if (fd >= 0 && (!link || !fdinfo_field(fd, "eventfd-count:", count, sizeof(count))))
		log_error(
			NULL,
			"/proc is not mounted where it runs, or hides /proc/self/fd: what descriptors "
			"are cannot be told, and they will be refused");
}

static void look_at_drivers(void)
{
	if (!devnumbers_begin())
		log_error(
			NULL,
			"/proc/devices or /proc/misc is hidden where it runs (ProcSubset=pid?): VFIO's "
			"devices cannot be told from others, and will be refused");
}

void surroundings_look(void)
{
	look_at_users();
	look_at_drivers();
	look_at_descriptors();
}

bool surroundings_blur(uid_t uid)
{
	return is_user_namespace && uid == overflow_uid;
}
