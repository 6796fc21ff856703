/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * monitor: events as they come, one a line and flushed, for an operator's eyes or a script's loop.
 * It ends by SIGINT or SIGTERM, and that is success; that the daemon went away is not.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "common/fd.h"
#include "cprctl/cprctl.h"
#include "cprctl/output.h"

static void print_line(const json_t *event, GDateTime *now)
{
	g_autofree char *when = g_date_time_format(now, "%Y-%m-%d %H:%M:%S");
	g_autofree char *name = output_escape(output_string(event, "name"));
	g_autofree char *what = output_escape(output_string(event, "event"));
	g_autofree char *state = output_escape(output_string(event, "state"));

	printf("%s.%03d  %-9s %s (uid %" PRId64 ")", when, g_date_time_get_microsecond(now) / 1000,
	       what, name, output_int(event, "uid"));
	/* Most events are named after the state they lead to. */
	if (!g_str_equal(what, state))
		printf(" %s", state);
	if (json_is_integer(json_object_get(event, "pid")))
		printf(" holder %" PRId64, output_int(event, "pid"));
	putchar('\n');
}

static void print_events(const struct ctl *ctl, const char *name, const json_t *events)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_local();
	json_t *event;
	size_t i;

	json_array_foreach(events, i, event)
	{
		json_auto_t *told = NULL;

		if (name && !g_str_equal(output_string(event, "name"), name))
			continue;
		if (!ctl->json) {
			print_line(event, now);
			continue;
		}
		told = json_copy(event);
		if (!json_object_get(told, "pid"))
			json_object_set_new(told, "pid", json_null());
		json_object_set_new(told, "timestampUsec", json_integer(g_get_real_time()));
		output_json(told, true);
	}
}

/* All that has arrived. 0, or -errno with a sentence on stderr. */
static int drain(struct ctl *ctl, const char *name)
{
	for (;;) {
		json_auto_t *answer = NULL;
		auto_call_error error = {0};
		int r = connection_next(ctl->connection, 0, &answer, NULL, NULL, &error);

		if (r == 0)
			return 0;
		if (r == -ECONNRESET || r == -ENODATA)
			ctl_error("vfio-cprd is gone: it closed the connection. Its sessions are "
				  "kept if systemd restarts it; 'vfio-cprctl list' shows them");
		else if (r < 0)
			ctl_call_failed(ctl, "cannot go on monitoring", r, &error);
		if (r < 0)
			return r;
		print_events(ctl, name, json_object_get(answer, "events"));
		if (!output_flush())
			return -EIO;
	}
}

static int block_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int watch(struct ctl *ctl, const char *name)
{
	auto_fd signals = block_signals();
	struct pollfd fds[] = {
		{.fd = signals, .events = POLLIN},
		{.fd = connection_fd(ctl->connection), .events = POLLIN},
		{.fd = fileno(stdout)}, /* POLLERR: whoever read the pipe is gone */
	};

	if (signals < 0) {
		ctl_error("cannot wait for signals: %s", g_strerror(-signals));
		return CTL_FAILURE;
	}
	for (;;) {
		if (drain(ctl, name) < 0)
			return CTL_FAILURE;
		if (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno != EINTR) {
			ctl_error("cannot wait for events: %s", g_strerror(errno));
			return CTL_FAILURE;
		}
		if (fds[0].revents)
			return CTL_OK;
		if (fds[2].revents & POLLERR)
			return CTL_FAILURE;
	}
}

int monitor_run(struct ctl *ctl, int argc, char **argv)
{
	const GOptionEntry entries[] = {CTL_OPTION_UID, {0}};
	json_t *parameters;
	int r;

	r = ctl_options(ctl, entries, "[NAME]",
			"Shows events as they come, the present sessions first, until interrupted.",
			0, 1, &argc, &argv);
	if (r != CTL_OK)
		return r;
	if (ctl->uid >= 0 && argc < 2) {
		ctl_error("monitor takes --uid with a NAME only");
		return CTL_USAGE;
	}

	/* Without --uid a name is picked out here, so that root sees it whoever has it. */
	parameters = json_object();
	if (ctl->uid >= 0) {
		json_object_set_new(parameters, "name", json_string(argv[1]));
		json_object_set_new(parameters, "uid", json_integer(ctl->uid));
	}
	r = ctl_connect(ctl, false);
	if (r < 0) {
		json_decref(parameters);
		return ctl_status_of(r);
	}
	r = connection_call_more(ctl->connection, CTL_INTERFACE "Monitor", parameters);
	if (r < 0) {
		auto_call_error none = {0};

		return ctl_call_failed(ctl, "cannot monitor", r, &none);
	}
	return watch(ctl, argc > 1 ? argv[1] : NULL);
}
