/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which session is meant by what an operator typed. */
#include "cprctl/cprctl.h"
#include "cprctl/output.h"

/* Those of that name, and of that owner if ctl->uid is given. */
static json_t *by_name(const struct ctl *ctl, const json_t *sessions, const char *name)
{
	json_t *found = json_array(), *session;
	size_t i;

	json_array_foreach(sessions, i, session)
	{
		if (g_str_equal(output_string(session, "name"), name) &&
		    (ctl->uid < 0 || ctl->uid == output_int(session, "uid")))
			json_array_append(found, session);
	}
	return found;
}

static int tell_none(const char *text)
{
	ctl_error("there is no session %s that you may see: 'vfio-cprctl list' shows those there "
		  "are; other users' are shown to root",
		  text);
	return CTL_NO_SESSION;
}

static int tell_several(const json_t *found, const char *text)
{
	g_autoptr(GString) uids = g_string_new(NULL);
	json_t *session;
	size_t i;

	json_array_foreach(found, i, session)
	{
		g_string_append_printf(uids, "%s%" PRId64, i ? ", " : "",
				       output_int(session, "uid"));
	}
	ctl_error("several users have a session %s: say whose with --uid, one of %s", text,
		  uids->str);
	return CTL_FAILURE;
}

int ctl_find_session(struct ctl *ctl, const char *text, json_t **ret_parameters)
{
	json_auto_t *answer = NULL, *found = NULL;
	const json_t *session;
	int r;

	r = ctl_call(ctl, "List", NULL, CTL_TIMEOUT_MSEC, "cannot look the session up", &answer);
	if (r != CTL_OK)
		return r;
	found = by_name(ctl, json_object_get(answer, "sessions"), text);
	if (!json_array_size(found))
		return tell_none(text);
	if (json_array_size(found) > 1)
		return tell_several(found, text);

	session = json_array_get(found, 0);
	*ret_parameters = json_pack("{s:s, s:I}", "name", output_string(session, "name"), "uid",
				    (json_int_t)output_int(session, "uid"));
	return CTL_OK;
}
