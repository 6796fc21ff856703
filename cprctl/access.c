/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a user may open what a VMM has to open. The kernel is asked, by access(2), as that user:
 * it alone knows every mode, group, ACL and directory on the way. Opening a node to see would reset
 * the device or keep its VMM out.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cprctl/access.h"
#include "cprctl/unitcheck.h"

void credentials_free(struct credentials *credentials)
{
	if (!credentials)
		return;
	g_free(credentials->name);
	g_free(credentials->groups);
	g_free(credentials);
}

void credentials_cleanup(struct credentials **credentials)
{
	credentials_free(*credentials);
}

static bool is_number(const char *text, unsigned int *ret_number)
{
	guint64 number;

	/* The highest is no id: it means "unchanged". */
	if (!g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX - 1, &number, NULL))
		return false;
	*ret_number = number;
	return true;
}

static bool find_user(const char *name, struct credentials *credentials)
{
	const struct passwd *entry = getpwnam(name);

	if (!entry) {
		/* systemd takes a number without an entry too, and its group is of the same. */
		if (!is_number(name, &credentials->uid))
			return false;
		credentials->gid = credentials->uid;
		entry = getpwuid(credentials->uid);
	}
	if (entry) {
		credentials->uid = entry->pw_uid;
		credentials->gid = entry->pw_gid;
	}
	credentials->name = g_strdup(name);
	return true;
}

static bool find_group(const char *name, gid_t *ret_gid)
{
	const struct group *entry = getgrnam(name);

	if (!entry)
		return is_number(name, ret_gid);
	*ret_gid = entry->gr_gid;
	return true;
}

/* The groups that the system's databases give the user. */
static void find_groups(struct credentials *credentials)
{
	const struct passwd *entry = getpwuid(credentials->uid);
	g_autofree char *name = entry ? g_strdup(entry->pw_name) : NULL;
	int n = 64;

	credentials->groups = g_new(gid_t, n);
	if (!name) {
		credentials->groups[0] = credentials->gid;
		credentials->n_groups = 1;
		return;
	}
	/* Too few is told with the number needed; the database may grow meanwhile. */
	while (getgrouplist(name, credentials->gid, credentials->groups, &n) < 0)
		credentials->groups = g_renew(gid_t, credentials->groups, n);
	credentials->n_groups = n;
}

int credentials_find(const char *user, const char *group, char *const *more,
		     struct credentials **ret_credentials, const char **ret_missing)
{
	g_autoptr(GArray) groups = g_array_new(FALSE, FALSE, sizeof(gid_t));
	struct credentials found = {0};

	if (!find_user(user, &found)) {
		*ret_missing = user;
		return -ENOENT;
	}
	*ret_missing = group;
	if (group && *group && !find_group(group, &found.gid))
		goto missing;
	for (; more && *more; more++) {
		gid_t gid = 0;

		*ret_missing = *more;
		if (!find_group(*more, &gid))
			goto missing;
		g_array_append_val(groups, gid);
	}

	find_groups(&found);
	g_array_append_vals(groups, found.groups, found.n_groups);
	g_free(found.groups);
	found.n_groups = groups->len;
	found.groups = (gid_t *)(void *)g_array_free(g_steal_pointer(&groups), FALSE);
	*ret_credentials = g_memdup2(&found, sizeof(found));
	return 0;

missing:
	g_free(found.name);
	return -ENOENT;
}

/* In a child, for there is no way back: its exit status is the errno. */
static void ask_as(const struct credentials *who, const char *path, int mode)
{
	if (setgroups(who->n_groups, who->groups) < 0 ||
	    setresgid(who->gid, who->gid, who->gid) < 0 ||
	    setresuid(who->uid, who->uid, who->uid) < 0)
		_exit(ENOTSUP);
	_exit(access(path, mode) < 0 ? errno : 0);
}

int access_ask(const struct credentials *who, const char *path, int mode)
{
	int status;
	pid_t pid;

	if (!who || (who->uid == geteuid() && who->uid != 0))
		return faccessat(AT_FDCWD, path, mode, AT_EACCESS) < 0 ? -errno : 0;
	if (geteuid() != 0)
		return -ENOTSUP;

	pid = fork();
	if (pid == 0)
		ask_as(who, path, mode);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

static const char *remedy(const struct node *node)
{
	if (!node->devices)
		return "Give it to a group of that user: SocketGroup= and SocketMode=0660 in a "
		       "drop-in of vfio-cprd.socket, see vfio-cprd(8)";
	return "Give it to a group of that user by a udev rule (GROUP=, MODE=\"0660\")";
}

/* Of somebody who was named, the answer is one; of the caller, it is only why we do not know. */
static void check_permission(Findings *findings, const struct check_scope *scope,
			     const struct node *node)
{
	g_autofree char *path = node->devices ? g_strconcat(scope->root, node->path, NULL)
					      : g_strdup(node->path);
	int r = access_ask(scope->user, path, node->devices ? R_OK | W_OK : W_OK);
	const char *who = scope->user ? scope->user->name : "this user";
	const char *what = node->devices ? "open" : "connect to";

	if (r == -ENOENT || (r == 0 && !scope->user))
		return;
	if (r == 0)
		findings_add(findings, node->check, node->subject, CHECK_OK, 0, NULL,
			     "%s may %s %s", who, what, node->path);
	else if (r == -EACCES && scope->user)
		findings_add(findings, node->check, node->subject, CHECK_BLOCKER, node->backend,
			     remedy(node), "%s may not %s %s", who, what, node->path);
	else if (r == -EACCES)
		findings_add(findings, node->check, node->subject, CHECK_UNKNOWN, node->backend,
			     "As root, 'check --user USER' tells whether a VMM's user may",
			     "this user may not %s %s; whether a VMM may depends on its user", what,
			     node->path);
	else
		findings_add(findings, node->check, node->subject, CHECK_UNKNOWN, node->backend,
			     "Run this as root, on the host itself",
			     "whether %s may %s %s was not looked into: %s", who, what, node->path,
			     r == -ENOTSUP ? "only root can ask for another user" : g_strerror(-r));
}

void check_node(Findings *findings, const struct check_scope *scope, const struct node *node)
{
	g_autofree char *refusal =
		scope->unit && node->devices
			? unit_refuses(scope->unit, scope->root, node->path, node->devices)
			: NULL;
	g_autofree char *allow = NULL;

	check_permission(findings, scope, node);
	if (!refusal)
		return;
	allow = g_strdup_printf("DeviceAllow=%s rw in the unit, and no PrivateDevices=",
				g_str_has_prefix(node->devices, "vfio") ? "char-vfio*"
									: node->path);
	findings_add(findings, node->check, node->subject, CHECK_BLOCKER, node->backend, allow,
		     "%s may not open %s: %s", scope->unit->id, node->path, refusal);
}

void check_access(Findings *findings, const struct check_scope *scope, const char *socket)
{
	const struct node nodes[] = {
		{"access", "/dev/vfio/vfio", "/dev/vfio/vfio", "misc", BACKEND_TYPE1},
		{"access", "/dev/iommu", "/dev/iommu", "misc", BACKEND_IOMMUFD},
		{"access", socket, socket, NULL, BACKEND_ALL},
	};

	if (!scope->user && !scope->unit)
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(nodes); i++)
		check_node(findings, scope, &nodes[i]);
}
