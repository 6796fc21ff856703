/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls to the daemon on behalf of a verb, and the sentences when they fail. The daemon's errors
 * say themselves what, why and what to do; those of the connection are put into words here.
 */
#include <errno.h>

#include "client/refusal.h"
#include "cprctl/cprctl.h"
#include "cprctl/output.h"

int ctl_connect(struct ctl *ctl, bool quiet)
{
	g_autofree char *why = NULL;
	int r;

	if (ctl->connection)
		return 0;

	r = connection_open(ctl->socket, CTL_ROOM_MSEC, &ctl->connection);
	if (r >= 0 || quiet)
		return r;

	why = refusal_tell(ctl->socket, r);
	ctl_error("cannot connect to vfio-cprd at %s: %s", ctl->socket, why);
	return r;
}

int ctl_status_of(int r)
{
	switch (r) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -EAGAIN:
	case -ECONNRESET:
	case -EPIPE:
	case -ETIMEDOUT:
		return CTL_NO_DAEMON;
	default:
		return CTL_FAILURE;
	}
}

int ctl_call_failed(const struct ctl *ctl, const char *what, int r, const struct call_error *error)
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

	if (g_str_equal(error->name, "NoSuchSession"))
		return CTL_NO_SESSION;
	return error->name[0] ? CTL_FAILURE : ctl_status_of(r);
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
		return ctl_status_of(r);
	}
	r = connection_call(ctl->connection, full, parameters, NULL, 0, timeout_msec, ret_answer,
			    NULL, &error);
	return r < 0 ? ctl_call_failed(ctl, what, r, &error) : CTL_OK;
}

/* Moves the items of the arrays of a further answer into those of the first. */
static void join(json_t *all, const json_t *answer)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)answer, key, value)
	{
		json_t *array = json_object_get(all, key);

		if (json_is_array(array) && json_is_array(value))
			json_array_extend(array, value);
	}
}

int ctl_ask_all(struct ctl *ctl, const char *method, json_t *parameters, json_t **ret_answer,
		struct call_error *ret_error)
{
	json_auto_t *asked = parameters ? parameters : json_object(), *all = NULL;
	int64_t cursor = 0, next = 0;

	do {
		json_auto_t *answer = NULL;
		int r;

		cursor = next;
		/* A daemon before 0.3.0 tells all in the first answer, and knows no cursor. */
		if (cursor > 0)
			json_object_set_new(asked, "cursor", json_integer(cursor));
		r = connection_call(ctl->connection, method, json_copy(asked), NULL, 0,
				    CTL_TIMEOUT_MSEC, &answer, NULL, ret_error);
		if (r < 0)
			return r;
		next = output_int(answer, "next");
		if (all)
			join(all, answer);
		else
			all = json_incref(answer);
		/* A cursor that does not advance would never end. */
	} while (next > cursor);
	json_object_del(all, "next");
	*ret_answer = g_steal_pointer(&all);
	return 0;
}

int ctl_call_all(struct ctl *ctl, const char *method, json_t *parameters, const char *what,
		 json_t **ret_answer)
{
	g_autofree char *full = g_strconcat(CTL_INTERFACE, method, NULL);
	auto_call_error error = {0};
	int r;

	r = ctl_connect(ctl, false);
	if (r < 0) {
		json_decref(parameters);
		return ctl_status_of(r);
	}
	r = ctl_ask_all(ctl, full, parameters, ret_answer, &error);
	return r < 0 ? ctl_call_failed(ctl, what, r, &error) : CTL_OK;
}
