/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls to the daemon on behalf of a verb, and the sentences when they fail. The daemon's errors
 * say themselves what, why and what to do; those of the connection are put into words here.
 */
#include <errno.h>
#include <unistd.h>

#include "client/refusal.h"
#include "cprctl/cprctl.h"
#include "cprctl/output.h"

int ctl_connect(struct ctl *ctl, bool quiet)
{
	g_autofree char *why = NULL;
	int r;

	if (ctl->connection)
		return 0;

	r = connection_open(ctl->socket, &ctl->connection);
	if (r >= 0 || quiet)
		return r;

	why = refusal_tell(ctl->socket, r);
	ctl_error("cannot connect to vfio-cprd at %s: %s", ctl->socket, why);
	return r;
}

void ctl_call_failed(const struct ctl *ctl, const char *what, int r, const struct call_error *error)
{
	if (error->message && *error->message)
		ctl_error("%s: %s", what, error->message);
	else if (error->name[0])
		ctl_error("%s: the daemon answered %s (%s)", what, error->name, g_strerror(-r));
	else if (r == -ECONNRESET || r == -EPIPE)
		ctl_error("%s: vfio-cprd at %s closed the connection before it answered; "
			  "'systemctl status vfio-cprd' may tell why. Try again",
			  what, ctl->socket);
	else if (r == -ETIMEDOUT)
		ctl_error("%s: vfio-cprd at %s accepted the call but has not answered it; "
			  "'systemctl status vfio-cprd' may tell why",
			  what, ctl->socket);
	else if (r == -EPROTO)
		ctl_error("%s: vfio-cprd at %s answered what this vfio-cprctl (%s) does not "
			  "understand: are both of one version?",
			  what, ctl->socket, VFIO_CPRD_VERSION);
	else
		ctl_error("%s: %s", what, g_strerror(-r));
}

int ctl_call(struct ctl *ctl, const char *method, json_t *parameters, int timeout_msec,
	     const char *what, json_t **ret_answer)
{
	g_autofree char *full = g_strconcat(CTL_INTERFACE, method, NULL);
	auto_call_error error = {0};
	int r;

	r = ctl_connect(ctl, false);
	if (r < 0) {
		json_decref(parameters);
		return r;
	}
	r = connection_call(ctl->connection, full, parameters, NULL, 0, timeout_msec, ret_answer,
			    NULL, &error);
	if (r < 0)
		ctl_call_failed(ctl, what, r, &error);
	return r;
}

static int none_or_several(const char *name, const char *uids, size_t found)
{
	if (!found) {
		ctl_error("there is no session %s that you may see: 'vfio-cprctl list' shows those "
			  "there are; other users' are shown to root",
			  name);
		return -ENOENT;
	}
	ctl_error("several users have a session %s: say whose with --uid, one of %s", name, uids);
	return -ENOTUNIQ;
}

int ctl_find_session(struct ctl *ctl, const char *name, int64_t uid, json_t **ret_parameters)
{
	g_autoptr(GString) uids = g_string_new(NULL);
	json_auto_t *parameters = json_pack("{s:s}", "name", name);
	json_auto_t *answer = NULL;
	json_t *session;
	size_t i, found = 0;
	int r;

	if (uid < 0) {
		r = ctl_call(ctl, "List", NULL, CTL_TIMEOUT_MSEC, "cannot look the session up",
			     &answer);
		if (r < 0)
			return r;
		json_array_foreach(json_object_get(answer, "sessions"), i, session)
		{
			if (!g_str_equal(output_string(session, "name"), name))
				continue;
			uid = output_int(session, "uid");
			g_string_append_printf(uids, "%s%" PRId64, found++ ? ", " : "", uid);
		}
		if (found != 1)
			return none_or_several(name, uids->str, found);
	}

	/* To name oneself is left out: the parameter is there for root. */
	if (uid != geteuid())
		json_object_set_new(parameters, "uid", json_integer(uid));
	*ret_parameters = g_steal_pointer(&parameters);
	return 0;
}
