/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprctl: the operator's view of vfio-cprd. It shows what the daemon holds, watches it, ends
 * what nobody needs any more, and finds out beforehand whether a host can hand devices over.
 * Each verb is a file of its own; what stands before it is parsed here, with options.c.
 */
#include <locale.h>
#include <stdlib.h>

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
	"A session's NAME may be the PCI address of a device that it holds.\n"
	"'vfio-cprctl VERB --help' shows a verb's options. See vfio-cprctl(1).";

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
	struct ctl ctl = {.legend = TRUE, .uid = -1};
	g_autoptr(GOptionContext) context = NULL;
	g_autoptr(GError) error = NULL;
	/* GOption rewrites argv; the strings in it live as long as the process. */
	g_autofree char **args = g_memdup2(argv, (argc + 1) * sizeof(*argv));
	char **rest = args;
	/* Not in a program that has more rights than who started it. */
	const char *path = secure_getenv("VFIO_CPR_SOCKET");
	int r;

	setlocale(LC_ALL, "");
	g_set_prgname("vfio-cprctl");
	ctl.socket = g_strdup(path && *path ? path : VFIO_CPR_SOCKET);

	/* The global options end at the verb; after it come its own, and the global ones again. */
	context = ctl_options_new(&ctl, NULL, "VERB [ARGUMENT...]",
				  "Shows and ends what vfio-cprd holds for virtual machines.");
	g_option_context_set_strict_posix(context, TRUE);
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
