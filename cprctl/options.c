/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of the command line: the global ones, which every verb takes too, and each verb's. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>

#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "vfio-cpr.h"

static gboolean set_socket(const char *name, const char *value, gpointer data, GError **error)
{
	struct ctl *ctl = data;

	if (!*value) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
			    "%s names no socket: its PATH is empty", name);
		return FALSE;
	}
	g_free(ctl->socket);
	ctl->socket = g_strdup(value);
	return TRUE;
}

static gboolean print_version(const char *name, const char *value, gpointer data, GError **error)
{
	(void)name;
	(void)value;
	(void)data;
	(void)error;
	puts("vfio-cprctl " VFIO_CPRD_VERSION);
	exit(CTL_OK);
}

/* GOption's own --help has a character that the C locale prints as "?". */
static void print_plain(GOptionContext *context)
{
	g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
	g_auto(GStrv) parts = g_strsplit(help, "\u2026", -1);
	g_autofree char *plain = g_strjoinv("...", parts);

	g_print("%s", plain);
}

static gboolean print_help(const char *name, const char *value, gpointer data, GError **error)
{
	struct ctl *ctl = data;

	(void)name;
	(void)value;
	(void)error;
	print_plain(ctl->context);
	exit(output_flush() ? CTL_OK : CTL_FAILURE);
}

gboolean ctl_set_uid(const char *name, const char *value, gpointer data, GError **error)
{
	struct ctl *ctl = data;
	const struct passwd *user;
	guint64 uid;

	/* (uid_t)-1 is nobody's. */
	if (g_ascii_string_to_unsigned(value, 10, 0, UINT32_MAX - 1, &uid, NULL)) {
		ctl->uid = (int64_t)uid;
		return TRUE;
	}
	user = getpwnam(value);
	if (user)
		ctl->uid = user->pw_uid;
	else
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
			    "%s: there is no user '%s' on this host: give a name or a number", name,
			    value);
	return user != NULL;
}

GOptionContext *ctl_options_new(struct ctl *ctl, const GOptionEntry *entries, const char *usage,
				const char *summary)
{
	const GOptionEntry global[] = {
		{"json", 'j', 0, G_OPTION_ARG_NONE, &ctl->json, "Print JSON", NULL},
		{"socket", 's', 0, G_OPTION_ARG_CALLBACK, (gpointer)set_socket,
		 "The daemon's socket (default: $VFIO_CPR_SOCKET, else " VFIO_CPR_SOCKET ")",
		 "PATH"},
		{"no-legend", 0, G_OPTION_FLAG_REVERSE, G_OPTION_ARG_NONE, &ctl->legend,
		 "Print tables without their headings", NULL},
		{"help", 'h', G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, (gpointer)print_help,
		 "Print this and exit", NULL},
		{"version", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, (gpointer)print_version,
		 "Print the version and exit", NULL},
		{0},
	};
	GOptionContext *context = g_option_context_new(usage);
	GOptionGroup *group = g_option_group_new("main", "", "", ctl, NULL);

	if (entries)
		g_option_group_add_entries(group, entries);
	g_option_group_add_entries(group, global);
	g_option_context_set_main_group(context, group);
	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_set_summary(context, summary);
	ctl->context = context;
	return context;
}

/* GOption leaves a "--" in if what follows it looks like an option. */
static int drop_dashes(int argc, char **argv)
{
	bool dashes = false;
	int kept = 1;

	for (int i = 1; i < argc; i++) {
		if (!dashes && g_str_equal(argv[i], "--"))
			dashes = true;
		else
			argv[kept++] = argv[i];
	}
	return kept;
}

static bool are_names(char **names, int n)
{
	for (int i = 0; i < n; i++) {
		if (*names[i] && g_utf8_validate(names[i], -1, NULL))
			continue;
		ctl_error("'%s' is no name: it is empty or not UTF-8", names[i]);
		return false;
	}
	return true;
}

int ctl_options(struct ctl *ctl, const GOptionEntry *entries, const char *arguments,
		const char *summary, int min, int max, int *argc, char ***argv)
{
	const char *verb = (*argv)[0];
	g_autofree char *usage = g_strconcat(verb, *arguments ? " " : "", arguments, NULL);
	g_autoptr(GOptionContext) context = ctl_options_new(ctl, entries, usage, summary);
	g_autoptr(GError) error = NULL;
	int n;

	if (!g_option_context_parse(context, argc, argv, &error)) {
		ctl_error("%s; see 'vfio-cprctl %s --help'", error->message, verb);
		return CTL_USAGE;
	}
	*argc = drop_dashes(*argc, *argv);
	n = *argc - 1;
	if (!are_names(*argv + 1, n))
		return CTL_USAGE;
	if (n < min)
		ctl_error("%s needs %s; see 'vfio-cprctl %s --help'", verb, arguments, verb);
	else if (max >= 0 && n > max)
		ctl_error("%s does not take '%s'; see 'vfio-cprctl %s --help'", verb,
			  (*argv)[max + 1], verb);
	else
		return CTL_OK;
	return CTL_USAGE;
}
