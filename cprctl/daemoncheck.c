/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon says of itself and of what it holds, for check, which needs none: nothing here is
 * an error of its own.
 */
#include <unistd.h>

#include "client/refusal.h"
#include "cprctl/daemoncheck.h"
#include "cprctl/output.h"
#include "cprctl/session.h"

/* A call whose failure becomes a finding. NULL then. */
static json_t *ask(struct ctl *ctl, Findings *findings, const char *method, json_t *parameters,
		   const char *failure)
{
	auto_call_error error = {0};
	json_t *answer = NULL;
	int r = ctl_ask_all(ctl, method, parameters, &answer, &error);

	if (r >= 0)
		return answer;
	findings_add(findings, "daemon", ctl->socket, CHECK_WARNING, 0,
		     "systemctl status vfio-cprd", "%s: %s", failure,
		     error.message && *error.message ? error.message : g_strerror(-r));
	return NULL;
}

/* vfio-cprd 0.1.0 tells of a session's devices only to who asks for that session. */
static void fill_in_devices(struct ctl *ctl, Findings *findings, json_t *session)
{
	json_t *devices, *object;
	json_auto_t *answer = NULL;
	json_t *parameters = json_pack("{s:O}", "name", json_object_get(session, "name"));
	size_t i;

	/* To name oneself is left out: the parameter is there for root. */
	if (output_int(session, "uid") != geteuid())
		json_object_set(parameters, "uid", json_object_get(session, "uid"));
	answer = ask(ctl, findings, CTL_INTERFACE "Show", parameters,
		     "does not tell the devices of a session");
	if (!answer)
		return;
	devices = json_array();
	json_array_foreach(json_object_get(answer, "objects"), i, object)
	{
		if (g_str_equal(output_string(object, "kind"), "device"))
			json_array_append(devices, json_object_get(object, "name"));
	}
	json_object_set_new(session, "devices", devices);
}

/* The sessions that the caller may see, each with its devices; NULL if that cannot be had. */
static json_t *ask_sessions(struct ctl *ctl, Findings *findings)
{
	json_auto_t *answer =
		ask(ctl, findings, CTL_INTERFACE "List", NULL, "does not list its sessions");
	json_t *sessions = json_object_get(answer, "sessions"), *session;
	size_t i;

	if (!json_is_array(sessions))
		return NULL;
	json_array_foreach(sessions, i, session)
	{
		if (!json_is_array(json_object_get(session, "devices")) &&
		    session_count_kind(session, "device"))
			fill_in_devices(ctl, findings, session);
	}
	return json_incref(sessions);
}

static void tell_status(const struct ctl *ctl, Findings *findings, const json_t *status)
{
	const char *version = output_string(status, "version");
	const char *warning = output_string(status, "warning");
	bool survives = json_is_true(json_object_get(status, "survivesRestart"));

	if (survives && !*warning)
		findings_add(findings, "daemon", ctl->socket, CHECK_OK, 0, NULL,
			     "vfio-cprd %s answers; sessions: %" PRId64 ", orphans: %" PRId64
			     ", descriptors: %" PRId64 " of %" PRId64,
			     version, output_int(status, "sessions"), output_int(status, "orphans"),
			     output_int(status, "descriptors"),
			     output_int(status, "descriptorLimit"));
	else
		findings_add(findings, "daemon", ctl->socket, CHECK_WARNING, 0,
			     survives ? NULL
				      : "Let systemd start it: systemctl start vfio-cprd.socket",
			     "vfio-cprd %s answers, but: %s", version,
			     *warning ? warning : "its own death would lose the sessions");
}

json_t *check_daemon(struct ctl *ctl, Findings *findings)
{
	json_auto_t *status = NULL;
	int r;

	r = ctl_connect(ctl, true);
	if (r < 0) {
		g_autofree char *refusal = refusal_tell(ctl->socket, r);

		findings_add(findings, "daemon", ctl->socket, CHECK_WARNING, 0, NULL,
			     "no vfio-cprd answers: %s", refusal);
		return NULL;
	}
	status = ask(ctl, findings, CTL_INTERFACE "Status", NULL, "does not tell its status");
	if (!status)
		return NULL;
	tell_status(ctl, findings, status);
	return ask_sessions(ctl, findings);
}
