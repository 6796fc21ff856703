/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The unit that a VMM runs in. Its limits and its sandbox are not those of the shell that asks, and
 * most of what goes wrong with a VM's first start is in them. systemd is asked through systemctl,
 * which is where systemd is.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cprctl/unitcheck.h"

void unit_facts_free(struct unit_facts *facts)
{
	if (!facts)
		return;
	g_free(facts->id);
	g_free(facts->load_state);
	g_free(facts->user);
	g_free(facts->group);
	g_strfreev(facts->groups);
	g_free(facts->device_policy);
	g_ptr_array_unref(facts->device_allow);
	g_free(facts);
}

void unit_facts_cleanup(struct unit_facts **facts)
{
	unit_facts_free(*facts);
}

bool unit_name_is_valid(const char *name)
{
	/* No patterns, and nothing that could be an option. */
	return *name && *name != '-' && strlen(name) < 256 &&
	       name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				 ":-_.\\@")] == '\0';
}

static guint64 parse_limit(const char *text)
{
	guint64 value;

	if (g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, &value, NULL))
		return value;
	return LIMIT_INFINITY;
}

static void replace(char **string, const char *value)
{
	g_free(*string);
	*string = g_strdup(value);
}

static void take(struct unit_facts *facts, const char *key, const char *value)
{
	if (g_str_equal(key, "Id"))
		replace(&facts->id, value);
	else if (g_str_equal(key, "LoadState"))
		replace(&facts->load_state, value);
	else if (g_str_equal(key, "User"))
		replace(&facts->user, value);
	else if (g_str_equal(key, "Group"))
		replace(&facts->group, value);
	else if (g_str_equal(key, "DevicePolicy"))
		replace(&facts->device_policy, value);
	else if (g_str_equal(key, "DeviceAllow") && *value)
		g_ptr_array_add(facts->device_allow, g_strdup(value));
	else if (g_str_equal(key, "PrivateDevices"))
		facts->private_devices = g_str_equal(value, "yes");
	else if (g_str_equal(key, "MainPID"))
		facts->main_pid = g_ascii_strtoull(value, NULL, 10);
	else if (g_str_equal(key, "LimitMEMLOCKSoft"))
		facts->memlock = parse_limit(value);
	else if (g_str_equal(key, "LimitNOFILE"))
		facts->nofile = parse_limit(value);
}

/* All that a unit without a word about it has. */
static struct unit_facts *unit_facts_new(void)
{
	struct unit_facts *facts = g_new0(struct unit_facts, 1);

	facts->id = g_strdup("");
	facts->load_state = g_strdup("");
	facts->user = g_strdup("");
	facts->group = g_strdup("");
	facts->groups = g_new0(char *, 1);
	facts->device_policy = g_strdup("auto");
	facts->device_allow = g_ptr_array_new_with_free_func(g_free);
	return facts;
}

struct unit_facts *unit_parse(const char *text)
{
	struct unit_facts *facts = unit_facts_new();
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (char **line = lines; *line; line++) {
		char *value = strchr(*line, '=');

		if (!value)
			continue;
		*value++ = '\0';
		if (g_str_equal(*line, "SupplementaryGroups")) {
			g_strfreev(facts->groups);
			facts->groups = g_strsplit(value, " ", -1);
		}
		facts->has_limits |= g_str_equal(*line, "LimitMEMLOCKSoft");
		take(facts, *line, value);
	}
	return facts;
}

/* The first line that a program wrote, for a sentence. */
static char *first_line(const char *text)
{
	return g_strndup(text, strcspn(text, "\n"));
}

struct unit_facts *unit_ask(const char *name, char **ret_failure)
{
	static const char properties[] =
		"--property=Id,LoadState,User,Group,SupplementaryGroups,MainPID,LimitMEMLOCKSoft,"
		"LimitNOFILE,DevicePolicy,DeviceAllow,PrivateDevices";
	const char *const argv[] = {
		"systemctl", "--no-pager", properties, "show", "--", name, NULL,
	};
	g_autofree char *output = NULL, *complaint = NULL, *line = NULL;
	g_autoptr(GError) error = NULL;
	int status;

	if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &output,
			  &complaint, &status, &error)) {
		*ret_failure = g_strdup(error->message);
		return NULL;
	}
	if (g_spawn_check_wait_status(status, &error))
		return unit_parse(output);
	line = first_line(complaint);
	*ret_failure = g_strdup_printf("systemctl: %s", *line ? line : error->message);
	return NULL;
}

/* Of a line of /proc/PID/limits, which has the name, the soft and the hard limit. NULL: no such line. */
static char *find_limit(const char *text, const char *name, bool is_hard)
{
	const char *line = strstr(text, name);
	char soft[32], hard[32];

	if (!line || sscanf(line + strlen(name), " %31s %31s", soft, hard) != 2)
		return NULL;
	return g_strdup(is_hard ? hard : soft);
}

bool unit_process_limits(const struct unit_facts *facts, const char *root, struct limits *ret)
{
	g_autofree char *path = g_strdup_printf("%s/proc/%u/limits", root, facts->main_pid);
	g_autofree char *text = facts->main_pid ? sysfs_read(path, NULL) : NULL;
	g_autofree char *memory = text ? find_limit(text, "Max locked memory", false) : NULL;
	g_autofree char *files = text ? find_limit(text, "Max open files", true) : NULL;

	if (!memory || !files)
		return false;
	ret->memlock = parse_limit(memory);
	ret->nofile = parse_limit(files);
	return true;
}

static bool is_same_node(const char *root, const char *a, const char *b)
{
	g_autofree char *path_a = g_strconcat(root, a, NULL), *path_b = g_strconcat(root, b, NULL);
	struct stat one, other;

	return g_str_equal(a, b) ||
	       (stat(path_a, &one) == 0 && stat(path_b, &other) == 0 && S_ISCHR(one.st_mode) &&
		S_ISCHR(other.st_mode) && one.st_rdev == other.st_rdev);
}

/* Whether an entry of DeviceAllow= lets a node be opened for reading and writing. */
static bool allows(const char *entry, const char *root, const char *node, const char *devices)
{
	g_auto(GStrv) words = g_strsplit(entry, " ", 2);

	if (!words[0] || !words[1] || !strchr(words[1], 'r') || !strchr(words[1], 'w'))
		return false;
	if (g_str_has_prefix(words[0], "char-"))
		return fnmatch(words[0] + strlen("char-"), devices, 0) == 0;
	return is_same_node(root, words[0], node);
}

char *unit_refuses(const struct unit_facts *facts, const char *root, const char *node,
		   const char *devices)
{
	const GPtrArray *allow = facts->device_allow;

	if (facts->private_devices)
		return g_strdup("PrivateDevices= gives it a /dev without nodes of VFIO");
	if (g_str_equal(facts->device_policy, "auto") && !allow->len)
		return NULL;
	for (guint i = 0; i < allow->len; i++)
		if (allows(allow->pdata[i], root, node, devices))
			return NULL;
	return g_strdup_printf("DevicePolicy=%s, and no DeviceAllow= gives it that with rw",
			       facts->device_policy);
}

static void check_unit_limits(Findings *findings, const char *root, const struct unit_facts *facts)
{
	struct limits limits = {facts->memlock, facts->nofile};
	g_autofree char *process = g_strdup_printf("process %u of %s", facts->main_pid, facts->id);

	if (unit_process_limits(facts, root, &limits))
		check_limits(findings, &limits, process);
	else if (facts->has_limits)
		check_limits(findings, &limits, facts->id);
	else
		findings_add(findings, "memlock", facts->id, CHECK_UNKNOWN, 0,
			     "Name the service that starts the VMM",
			     "has no limits of its own: it starts no process");
}

void check_unit(Findings *findings, const char *root, const struct unit_facts *facts)
{
	if (!g_str_equal(facts->load_state, "loaded")) {
		findings_add(findings, "unit", facts->id, CHECK_BLOCKER, BACKEND_ALL,
			     "'systemctl list-units --all' lists those there are",
			     "systemd has no such unit to start (%s)", facts->load_state);
		return;
	}
	findings_add(findings, "unit", facts->id, CHECK_OK, 0, NULL, "is loaded; its user is %s",
		     *facts->user ? facts->user : "root");
	check_unit_limits(findings, root, facts);
}
