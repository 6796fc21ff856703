/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which session is meant by what an operator typed: its name, or the address of a device. */
#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "cprctl/pci-address.h"
#include "cprctl/session.h"

static bool has_name(const json_t *session, const char *name)
{
	return g_str_equal(output_string(session, "name"), name);
}

/* Those of which that is true, and of that owner if ctl->uid is given. */
static json_t *select_sessions(const struct ctl *ctl, const json_t *sessions,
			       bool (*test)(const json_t *session, const char *value),
			       const char *value)
{
	json_t *found = json_array(), *session;
	size_t i;

	json_array_foreach(sessions, i, session)
	{
		if (test(session, value) &&
		    (ctl->uid < 0 || ctl->uid == output_int(session, "uid")))
			json_array_append(found, session);
	}
	return found;
}

static int tell_none(const json_t *sessions, const char *text, const char *address)
{
	json_t *session;
	size_t i;

	if (!address) {
		ctl_error("there is no session %s that you may see: 'vfio-cprctl list' shows those "
			  "there are; other users' are shown to root",
			  text);
		return CTL_NO_SESSION;
	}
	json_array_foreach(sessions, i, session)
	{
		if (!session_hides_devices(session))
			continue;
		ctl_error(
			"it cannot be told which session holds device %s: of session %s the "
			"devices are not known. If vfio-cprd is of before 0.2.0, 'systemctl restart "
			"vfio-cprd' makes it the new one and keeps all sessions; else name the "
			"session",
			address, output_string(session, "name"));
		return CTL_FAILURE;
	}
	ctl_error("no session that you may see holds device %s: 'vfio-cprctl list' shows those "
		  "there are; other users' are shown to root",
		  address);
	return CTL_NO_SESSION;
}

static int tell_several(const json_t *found, const char *text, bool is_name)
{
	g_autoptr(GString) list = g_string_new(NULL);
	json_t *session;
	size_t i;

	json_array_foreach(found, i, session)
	{
		g_string_append(list, i ? ", " : "");
		if (!is_name)
			g_string_append_printf(list, "%s of ", output_string(session, "name"));
		g_string_append_printf(list, "%" PRId64, output_int(session, "uid"));
	}
	if (is_name)
		ctl_error("several users have a session %s: say whose with --uid, one of %s", text,
			  list->str);
	else
		ctl_error("several sessions hold device %s: name one, with --uid for its owner: %s",
			  text, list->str);
	return CTL_FAILURE;
}

int ctl_find_session(struct ctl *ctl, const char *text, json_t **ret_parameters)
{
	g_autofree char *address = pci_address_complete(text);
	json_auto_t *answer = NULL, *found = NULL;
	const json_t *sessions, *session;
	bool is_name;
	int r;

	r = ctl_call_all(ctl, "List", NULL, "cannot look the session up", &answer);
	if (r != CTL_OK)
		return r;
	sessions = json_object_get(answer, "sessions");
	found = select_sessions(ctl, sessions, has_name, text);
	is_name = json_array_size(found) > 0;
	if (!is_name && address) {
		json_decref(found);
		found = select_sessions(ctl, sessions, session_has_device, address);
	}
	if (!json_array_size(found))
		return tell_none(sessions, text, address);
	if (json_array_size(found) > 1)
		return tell_several(found, is_name ? text : address, is_name);

	session = json_array_get(found, 0);
	*ret_parameters = json_pack("{s:s, s:I}", "name", output_string(session, "name"), "uid",
				    (json_int_t)output_int(session, "uid"));
	return CTL_OK;
}
