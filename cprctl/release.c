/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * release: ends a session. It cannot be undone, the kernel resets what nobody else has open, so an
 * operator at a terminal is told what will go and asked. A script has been written by somebody who
 * knew that nobody needs the session; but if its holder lives, somebody does, and it must insist.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "cprctl/session.h"

#define CTL_ALIVE (-1) /* a status beside the exit statuses: a new holder was faster */

struct release {
	struct ctl *ctl;
	gboolean yes, force, when_dead; /* its options */
};

static bool is_held(const json_t *session)
{
	return json_is_object(json_object_get(session, "holder"));
}

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
	if (is_held(session))
		fprintf(stderr, ", held by process %s", safe);
	fprintf(stderr, ".\nThe daemon will close %s of it.\n", objects);
	if (!devices)
		return;
	if (is_held(session))
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

/* Nothing was to be done, which stderr says, and that is right with --when-dead. */
static int nothing_to_do(const struct ctl *ctl)
{
	json_auto_t *told = json_pack("{s:n}", "released");

	return ctl->json && output_json(told, false) < 0 ? CTL_FAILURE : CTL_OK;
}

static int tell_alive(const struct release *release, const json_t *session)
{
	const char *name = output_string(session, "name");
	g_autofree char *holder = session_holder(session);

	if (release->when_dead) {
		ctl_error("nothing is released: session %s of uid %" PRId64 " is held by process "
			  "%s, which lives",
			  name, output_int(session, "uid"), holder);
		return nothing_to_do(release->ctl);
	}
	ctl_error("session %s of uid %" PRId64
		  " is held by process %s, which lives: it would go on "
		  "unprotected, and its devices be reset when it exits. Say --force if that is "
		  "meant, or --when-dead to release only what nobody holds",
		  name, output_int(session, "uid"), holder);
	return CTL_FAILURE;
}

/* Whether it may go on, by what the operator says now or has said by options; else *ret_status. */
static bool may_release(const struct release *release, const json_t *session, int *ret_status)
{
	bool at_terminal = isatty(STDIN_FILENO);

	if (is_held(session) && (release->when_dead || (!release->force && !at_terminal))) {
		*ret_status = tell_alive(release, session);
		return false;
	}
	if (at_terminal && !release->yes && !release->force) {
		describe(session);
		if (!confirm()) {
			ctl_error("nothing was released");
			*ret_status = CTL_FAILURE;
			return false;
		}
	}
	return true;
}

/* No limit: it answers when all is closed, and the reset of a device can take seconds. */
static int call_release(struct ctl *ctl, const json_t *address, bool when_dead,
			struct call_error *ret_error)
{
	json_t *parameters = json_copy((json_t *)address);

	if (when_dead)
		json_object_set_new(parameters, "whenDead", json_true());
	return connection_call(ctl->connection, CTL_INTERFACE "Release", parameters, NULL, 0, -1,
			       NULL, NULL, ret_error);
}

/*
 * What was found dead, and decided on as such, is released only if it still is: a new holder may
 * have claimed it since. when_dead: whether it was.
 */
static int end_session(const struct release *release, const json_t *address, bool when_dead)
{
	static const char what[] = "cannot release the session";
	auto_call_error error = {0};
	int r = call_release(release->ctl, address, when_dead, &error), status;

	if (r < 0 && when_dead && g_str_equal(error.name, "InvalidParameter")) {
		/* A daemon of 0.1.0, which does not know whenDead. */
		if (release->when_dead) {
			ctl_error(
				"%s: this vfio-cprd is an older one, and cannot release it only if "
				"its holder is dead: 'systemctl restart vfio-cprd' makes it a new "
				"one and keeps all sessions",
				what);
			return CTL_FAILURE;
		}
		call_error_clear(&error);
		r = call_release(release->ctl, address, false, &error);
	}
	if (r >= 0)
		return CTL_OK;
	status = ctl_call_failed(release->ctl, what, r, &error);
	return g_str_equal(error.name, "Busy") ? CTL_ALIVE : status;
}

int release_run(struct ctl *ctl, int argc, char **argv)
{
	struct release release = {.ctl = ctl};
	const GOptionEntry entries[] = {
		CTL_OPTION_UID,
		{"yes", 'y', 0, G_OPTION_ARG_NONE, &release.yes, "Do not ask", NULL},
		{"when-dead", 0, 0, G_OPTION_ARG_NONE, &release.when_dead,
		 "Do nothing if a process holds it, or if there is none of that name", NULL},
		{"force", 0, 0, G_OPTION_ARG_NONE, &release.force,
		 "Release it also if its holder lives, and do not ask", NULL},
		{0},
	};
	json_auto_t *address = NULL, *shown = NULL;
	const json_t *session;
	int r;

	r = ctl_options(ctl, entries, "NAME",
			"Ends a session: the daemon closes all that it holds of it, which resets "
			"its devices.",
			1, 1, &argc, &argv);
	if (r != CTL_OK)
		return r;
	if (release.force && release.when_dead) {
		ctl_error("--force and --when-dead contradict each other");
		return CTL_USAGE;
	}

	r = ctl_find_session(ctl, argv[1], &address);
	if (r == CTL_OK)
		r = ctl_call(ctl, "Show", json_copy(address), CTL_TIMEOUT_MSEC,
			     "cannot look at the session", &shown);
	session = json_object_get(shown, "session");
	if (r == CTL_OK && !may_release(&release, session, &r))
		return r;
	if (r == CTL_OK)
		r = end_session(&release, address, !release.force && !is_held(session));

	if (release.when_dead && (r == CTL_NO_SESSION || r == CTL_ALIVE))
		return nothing_to_do(ctl);
	if (r != CTL_OK)
		return r == CTL_ALIVE ? CTL_FAILURE : r;
	return tell(ctl, session) < 0 ? CTL_FAILURE : CTL_OK;
}
