/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * list: one line for each session. What an operator must not overlook, such as that the daemon's own
 * death would lose them all, goes to stderr beside the table.
 */
#include <stdio.h>

#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "cprctl/session.h"

#define DEVICES_MAX 2 /* so that a line fits into 100 columns */

static int compare(gconstpointer a, gconstpointer b)
{
	const json_t *left = *(json_t *const *)a, *right = *(json_t *const *)b;
	int order = g_strcmp0(output_string(left, "name"), output_string(right, "name"));
	int64_t distance = output_int(left, "uid") - output_int(right, "uid");

	return order ? order : distance < 0 ? -1 : distance > 0;
}

/* The daemon tells them in no order; by name, two lists can be compared. */
static json_t *sorted(const json_t *sessions)
{
	g_autoptr(GPtrArray) order = g_ptr_array_new();
	json_t *result = json_array(), *session;
	size_t i;

	json_array_foreach(sessions, i, session)
	{
		g_ptr_array_add(order, session);
	}
	g_ptr_array_sort(order, compare);
	for (i = 0; i < order->len; i++)
		json_array_append(result, order->pdata[i]);
	return result;
}

static int print_json(const json_t *sessions)
{
	json_auto_t *told = json_array();
	json_t *session;
	size_t i;

	json_array_foreach(sessions, i, session)
	{
		json_array_append_new(told, session_json(session));
	}
	return output_json(told, false);
}

static void print_table(const struct ctl *ctl, const json_t *sessions)
{
	static const char *const headings[] = {"NAME", "UID",	 "STATE",  "SINCE",
					       "UNIT", "HOLDER", "DEVICES"};
	auto_columns *columns = columns_new("lrlrlrl", headings);
	json_t *session;
	size_t i;

	if (!json_array_size(sessions)) {
		if (ctl->legend)
			puts("No sessions.");
		return;
	}
	json_array_foreach(sessions, i, session)
	{
		g_autofree char *age = output_age(output_int(session, "ageUsec"));
		g_autofree char *devices = session_devices_text(session, DEVICES_MAX, ",");
		int64_t pid = output_int(json_object_get(session, "holder"), "pid");

		columns_add(columns, output_string(session, "name"));
		columns_addf(columns, "%" PRId64, output_int(session, "uid"));
		columns_add(columns, output_string(session, "state"));
		columns_addf(columns, "%s ago", age);
		columns_add(columns, session_unit(session));
		if (pid)
			columns_addf(columns, "%" PRId64, pid);
		else
			columns_add(columns, "-");
		columns_add(columns, devices);
	}
	columns_print(columns, ctl->legend, "");
}

/* A VM whose devices lost something: whoever starts it again will meet that. */
static void warn_of_sessions(const json_t *sessions)
{
	json_t *session;
	size_t i;

	json_array_foreach(sessions, i, session)
	{
		const char *warning = output_string(session, "warning");

		if (*warning)
			ctl_error("warning: session %s: %s", output_string(session, "name"),
				  warning);
	}
}

static void warn_of_daemon(struct ctl *ctl)
{
	json_auto_t *status = NULL;
	const char *warning;

	if (ctl_call(ctl, "Status", NULL, CTL_TIMEOUT_MSEC, "cannot ask for the daemon's status",
		     &status) != CTL_OK)
		return;
	warning = output_string(status, "warning");
	if (!json_is_false(json_object_get(status, "survivesRestart")) && !*warning)
		return;
	ctl_error("warning: %s", *warning ? warning
					  : "the daemon's own death would lose all "
					    "sessions: start it by systemd");
}

int list_run(struct ctl *ctl, int argc, char **argv)
{
	json_auto_t *answer = NULL, *sessions = NULL;
	int r;

	r = ctl_options(ctl, NULL, "",
			"Lists the sessions that you may see: yours, or all for root.", 0, 0, &argc,
			&argv);
	if (r != CTL_OK)
		return r;

	r = ctl_call_all(ctl, "List", NULL, "cannot list the sessions", &answer);
	if (r != CTL_OK)
		return r;
	sessions = sorted(json_object_get(answer, "sessions"));

	if (ctl->json)
		return print_json(sessions) < 0 ? CTL_FAILURE : CTL_OK;

	print_table(ctl, sessions);
	/* The table first, also where stdout and stderr are one file. */
	fflush(stdout);
	warn_of_sessions(sessions);
	warn_of_daemon(ctl);
	return CTL_OK;
}
