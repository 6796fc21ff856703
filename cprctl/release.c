/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * release: ends a session. It cannot be undone, the kernel resets what nobody else has open, so an
 * operator at a terminal is told what will go and asked; a script has been written by somebody who
 * knew.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "cprctl/session.h"

static void describe(const json_t *session)
{
	int64_t devices = session_count_kind(session, "device");
	g_autofree char *objects = session_objects(session);
	g_autofree char *name = output_escape(output_string(session, "name"));
	g_autofree char *state = output_escape(output_string(session, "state"));
	g_autofree char *holder = session_holder(session);
	g_autofree char *safe = output_escape(holder);

	fprintf(stderr, "Session %s of uid %" PRId64 " is %s", name, output_int(session, "uid"),
		state);
	if (json_is_object(json_object_get(session, "holder")))
		fprintf(stderr, ", held by process %s", safe);
	fprintf(stderr, ".\nThe daemon will close %s of it.\n", objects);
	if (!devices)
		return;
	if (json_is_object(json_object_get(session, "holder")))
		fputs("Its holder keeps its devices open and running, but they will not survive it "
		      "any more:\nthe kernel resets them when it exits.\n",
		      stderr);
	else
		fputs("The kernel resets its devices by that: their DMA and all they were doing "
		      "ends, and what is in\nthe memory is lost with it.\n",
		      stderr);
}

static bool confirm(void)
{
	char line[16];

	fputs("Release it? [y/N] ", stderr);
	if (!fgets(line, sizeof(line), stdin)) {
		fputc('\n', stderr);
		return false;
	}
	g_strstrip(line);
	return g_ascii_strcasecmp(line, "y") == 0 || g_ascii_strcasecmp(line, "yes") == 0;
}

static int tell(const struct ctl *ctl, const json_t *session)
{
	json_auto_t *told = NULL;
	g_autofree char *objects = session_objects(session);
	g_autofree char *name = output_escape(output_string(session, "name"));

	if (!ctl->json) {
		printf("Released session %s of uid %" PRId64 ": closed %s.\n", name,
		       output_int(session, "uid"), objects);
		return 0;
	}
	told = json_pack("{s:o}", "released", session_json(session));
	return output_json(told, false);
}

int release_run(struct ctl *ctl, int argc, char **argv)
{
	gboolean yes = FALSE;
	const GOptionEntry entries[] = {
		CTL_OPTION_UID,
		{"yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "Do not ask", NULL},
		{0},
	};
	json_auto_t *parameters = NULL, *before = NULL, *answer = NULL;
	json_t *session;
	int r;

	r = ctl_options(ctl, entries, "NAME",
			"Ends a session: the daemon closes all that it holds of it, which resets "
			"its devices.",
			1, 1, &argc, &argv);
	if (r != CTL_OK)
		return r;

	r = ctl_find_session(ctl, argv[1], &parameters);
	if (r == CTL_OK)
		r = ctl_call(ctl, "Show", json_copy(parameters), CTL_TIMEOUT_MSEC,
			     "cannot look at the session", &before);
	if (r != CTL_OK)
		return r;
	session = json_object_get(before, "session");

	if (!yes && isatty(STDIN_FILENO)) {
		describe(session);
		if (!confirm()) {
			ctl_error("nothing was released");
			return CTL_FAILURE;
		}
	}

	/* No limit: it answers when all is closed, and the reset of a device can take seconds. */
	r = ctl_call(ctl, "Release", json_copy(parameters), -1, "cannot release the session",
		     &answer);
	if (r != CTL_OK)
		return r;
	return tell(ctl, session) < 0 ? CTL_FAILURE : CTL_OK;
}
