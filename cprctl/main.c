/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprctl: the operator's view of vfio-cprd. It shows what the daemon holds, watches it, ends
 * what nobody needs any more, and finds out beforehand whether a host can hand devices over.
 * This file is the command line; each verb is a file of its own.
 */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "vfio-cpr.h"

static const struct {
	const char *name;
	int (*run)(struct ctl *ctl, int argc, char **argv);
} verbs[] = {
	{"list", list_run},	  {"show", show_run},	{"monitor", monitor_run},
	{"release", release_run}, {"check", check_run},
};

static const char verbs_help[] =
	"Verbs:\n"
	"  list               Sessions: their state, holder, and what is held\n"
	"  show NAME          One session, object by object\n"
	"  monitor [NAME]     What happens to sessions, as it happens\n"
	"  release NAME       End a session: close all it holds (resets its devices)\n"
	"  check [DEVICE...]  Whether this host, and these devices, can be handed over\n"
	"\n"
	"'vfio-cprctl VERB --help' shows a verb's options. See vfio-cprctl(1).";

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

static void add_options(GOptionContext *context, struct ctl *ctl, const GOptionEntry *entries)
{
	const GOptionEntry global[] = {
		{"json", 'j', 0, G_OPTION_ARG_NONE, &ctl->json, "Print JSON", NULL},
		{"socket", 's', 0, G_OPTION_ARG_CALLBACK, (gpointer)set_socket,
		 "The daemon's socket (default: $VFIO_CPR_SOCKET, else " VFIO_CPR_SOCKET ")",
		 "PATH"},
		{"no-legend", 0, G_OPTION_FLAG_REVERSE, G_OPTION_ARG_NONE, &ctl->legend,
		 "Print tables without their headings", NULL},
		{"version", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, (gpointer)print_version,
		 "Print the version and exit", NULL},
		{0},
	};
	GOptionGroup *group = g_option_group_new("main", "", "", ctl, NULL);

	if (entries)
		g_option_group_add_entries(group, entries);
	g_option_group_add_entries(group, global);
	g_option_context_set_main_group(context, group);
}

int ctl_options(struct ctl *ctl, const GOptionEntry *entries, const char *arguments,
		const char *summary, int min, int max, int *argc, char ***argv)
{
	g_autofree char *usage = g_strconcat((*argv)[0], *arguments ? " " : "", arguments, NULL);
	g_autoptr(GOptionContext) context = g_option_context_new(usage);
	g_autoptr(GError) error = NULL;
	bool dashes = false;
	int n, kept = 1;

	add_options(context, ctl, entries);
	g_option_context_set_summary(context, summary);
	if (!g_option_context_parse(context, argc, argv, &error)) {
		ctl_error("%s; see 'vfio-cprctl %s --help'", error->message, (*argv)[0]);
		return CTL_USAGE;
	}

	/* GOption leaves a "--" in if what follows it looks like an option. */
	for (int i = 1; i < *argc; i++) {
		if (!dashes && g_str_equal((*argv)[i], "--"))
			dashes = true;
		else
			(*argv)[kept++] = (*argv)[i];
	}
	*argc = kept;

	n = *argc - 1;
	for (int i = 1; i <= n; i++) {
		if (*(*argv)[i] && g_utf8_validate((*argv)[i], -1, NULL))
			continue;
		ctl_error("'%s' is no name: it is empty or not UTF-8", (*argv)[i]);
		return CTL_USAGE;
	}
	if (n < min)
		ctl_error("%s needs %s; see 'vfio-cprctl %s --help'", (*argv)[0], arguments,
			  (*argv)[0]);
	else if (max >= 0 && n > max)
		ctl_error("%s does not take '%s'; see 'vfio-cprctl %s --help'", (*argv)[0],
			  (*argv)[max + 1], (*argv)[0]);
	else
		return CTL_OK;
	return CTL_USAGE;
}

bool ctl_uid_is_valid(int64_t uid)
{
	/* (uid_t)-1 is nobody's. */
	if (uid >= -1 && uid < UINT32_MAX)
		return true;
	ctl_error("%" PRId64 " is no user id", uid);
	return false;
}

static int run_verb(struct ctl *ctl, int argc, char **argv)
{
	for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++)
		if (g_str_equal(argv[0], verbs[i].name))
			return verbs[i].run(ctl, argc, argv);

	ctl_error("there is no verb '%s'; see 'vfio-cprctl --help'", argv[0]);
	return CTL_USAGE;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.legend = TRUE};
	g_autoptr(GOptionContext) context = g_option_context_new("VERB [ARGUMENT...]");
	g_autoptr(GError) error = NULL;
	/* GOption rewrites argv; the strings in it live as long as the process. */
	g_autofree char **args = g_memdup2(argv, (argc + 1) * sizeof(*argv));
	char **rest = args;
	const char *path = getenv("VFIO_CPR_SOCKET");
	int r;

	setlocale(LC_ALL, "");
	g_set_prgname("vfio-cprctl");
	ctl.socket = g_strdup(path && *path ? path : VFIO_CPR_SOCKET);

	/* The global options end at the verb; after it come its own, and the global ones again. */
	g_option_context_set_strict_posix(context, TRUE);
	add_options(context, &ctl, NULL);
	g_option_context_set_summary(context,
				     "Shows and ends what vfio-cprd holds for virtual machines.");
	g_option_context_set_description(context, verbs_help);
	if (!g_option_context_parse(context, &argc, &rest, &error)) {
		ctl_error("%s; see 'vfio-cprctl --help'", error->message);
		r = CTL_USAGE;
	} else if (argc > 1 && g_str_equal(rest[1], "--")) {
		ctl_error("a verb must come before '--'; see 'vfio-cprctl --help'");
		r = CTL_USAGE;
	} else if (argc < 2) {
		ctl_error("say what to do: list, show, monitor, release or check; see "
			  "'vfio-cprctl --help'");
		r = CTL_USAGE;
	} else {
		r = run_verb(&ctl, argc - 1, rest + 1);
	}

	if (!output_flush() && r == CTL_OK)
		r = CTL_FAILURE;
	if (ctl.connection)
		connection_close(ctl.connection);
	g_free(ctl.socket);
	return r;
}
