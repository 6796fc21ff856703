/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * monitor: events as they come, one a line and flushed, for an operator's eyes or a script's loop.
 * It ends by SIGINT or SIGTERM, and that is success. That the daemon goes away does not end it:
 * daemons are restarted, and a script that stopped to watch then would do so unnoticed. What came
 * meanwhile nobody can tell; the gap is marked, and the sessions there are then are told anew.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "common/fd.h"
#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "cprctl/pci-address.h"

/* How long it waits before it tries again: a daemon that restarts is back at once. */
#define RETRY_MIN_MSEC 50
#define RETRY_MAX_MSEC 2000

struct monitor {
	struct ctl *ctl;
	const char *name; /* of the sessions that are meant, NULL: of all */
	int64_t uid;	  /* their owner's, -1: anybody's */
	int signals;	  /* a signalfd */
	/* Since it was connected last: */
	bool begun;    /* the daemon answers */
	bool complete; /* all sessions that were there then are told */
	size_t found;  /* of those that are watched, among these */
	gint64 lost;   /* when the daemon went, by the real clock; 0: it did not */
	int retry_msec;
};

static void print_when(void)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_local();
	g_autofree char *when = g_date_time_format(now, "%Y-%m-%d %H:%M:%S");

	printf("%s.%03d  ", when, g_date_time_get_microsecond(now) / 1000);
}

static void print_line(const json_t *event)
{
	g_autofree char *name = output_escape(output_string(event, "name"));
	g_autofree char *what = output_escape(output_string(event, "event"));
	g_autofree char *state = output_escape(output_string(event, "state"));

	print_when();
	printf("%-9s %s (uid %" PRId64 ")", what, name, output_int(event, "uid"));
	/* Most events are named after the state they lead to. */
	if (!g_str_equal(what, state))
		printf(" %s", state);
	if (json_is_integer(json_object_get(event, "pid")))
		printf(" holder %" PRId64, output_int(event, "pid"));
	putchar('\n');
}

static void print_event(const struct ctl *ctl, const json_t *event)
{
	json_auto_t *told = NULL;

	if (!ctl->json) {
		print_line(event);
		return;
	}
	told = json_copy((json_t *)event);
	if (!json_object_get(told, "pid"))
		json_object_set_new(told, "pid", json_null());
	json_object_set_new(told, "timestampUsec", json_integer(g_get_real_time()));
	output_json(told, true);
}

static void print_gap(const struct monitor *monitor)
{
	gint64 now = g_get_real_time();
	g_autofree char *age = output_age(MAX(now - monitor->lost, 0));
	json_auto_t *told = NULL;

	if (!monitor->ctl->json) {
		print_when();
		printf("gap       of %s, in which events were missed\n", age);
		return;
	}
	told = json_pack("{s:s, s:n, s:n, s:n, s:n, s:I, s:I}", "event", "gap", "name", "uid",
			 "state", "pid", "sinceUsec", (json_int_t)monitor->lost, "timestampUsec",
			 (json_int_t)now);
	output_json(told, true);
}

/* Prints the events of what is watched; how many those are. */
static size_t print_events(const struct monitor *monitor, const json_t *events)
{
	json_t *event;
	size_t i, n = 0;

	json_array_foreach(events, i, event)
	{
		if (monitor->name &&
		    (!g_str_equal(output_string(event, "name"), monitor->name) ||
		     (monitor->uid >= 0 && output_int(event, "uid") != monitor->uid)))
			continue;
		print_event(monitor->ctl, event);
		n++;
	}
	return n;
}

static void print_beginning(struct monitor *monitor)
{
	monitor->begun = true;
	monitor->complete = false;
	monitor->found = 0;
	monitor->retry_msec = RETRY_MIN_MSEC;
	if (monitor->lost) {
		ctl_error("vfio-cprd is back; what came meanwhile was missed");
		print_gap(monitor);
		monitor->lost = 0;
	}
}

/* The first answers on a connection: the sessions that there are. */
static void print_present(struct monitor *monitor, const json_t *answer)
{
	if (!monitor->begun)
		print_beginning(monitor);
	monitor->found += print_events(monitor, json_object_get(answer, "events"));
	monitor->complete = !json_is_true(json_object_get(answer, "more"));
	if (monitor->complete && monitor->found == 0 && monitor->name)
		ctl_error("there is no session %s that you may see: waiting for one",
			  monitor->name);
}

static bool is_loss(int r)
{
	return r == -ECONNRESET || r == -EPIPE || r == -ENODATA;
}

/* The connection is useless. Says so, once until it is back. */
static void lose(struct monitor *monitor)
{
	g_clear_pointer(&monitor->ctl->connection, connection_close);
	monitor->begun = monitor->complete = false;
	if (monitor->lost)
		return;
	monitor->lost = g_get_real_time();
	ctl_error("vfio-cprd is gone: it closed the connection. Its sessions are kept if systemd "
		  "restarts it; waiting until it is back");
}

/* All that has arrived. CTL_OK, or an exit status with a sentence on stderr. */
static int drain(struct monitor *monitor)
{
	for (;;) {
		json_auto_t *answer = NULL;
		auto_call_error error = {0};
		int r = connection_next(monitor->ctl->connection, 0, &answer, NULL, NULL, &error);

		if (r == 0)
			return CTL_OK;
		if (is_loss(r)) {
			lose(monitor);
			return CTL_OK;
		}
		if (r < 0)
			return ctl_call_failed(monitor->ctl, "cannot go on monitoring", r, &error);
		if (monitor->complete)
			print_events(monitor, json_object_get(answer, "events"));
		else
			print_present(monitor, answer);
		if (!output_flush())
			return CTL_FAILURE;
	}
}

/* Calls Monitor on a connection, which may be a new one. 0 or -errno. */
static int begin(struct monitor *monitor, bool quiet)
{
	json_t *parameters;
	int r;

	r = ctl_connect(monitor->ctl, quiet);
	if (r < 0)
		return r;
	/* Of a name whose owner is not said it is picked out here, so that root sees everybody's. */
	parameters = json_object();
	if (monitor->uid >= 0) {
		json_object_set_new(parameters, "name", json_string(monitor->name));
		json_object_set_new(parameters, "uid", json_integer(monitor->uid));
	}
	return connection_call_more(monitor->ctl->connection, CTL_INTERFACE "Monitor", parameters);
}

static void try_again(struct monitor *monitor)
{
	/* Whatever is in the way may pass too: systemd makes a socket before it is its group's. */
	if (begin(monitor, true) < 0)
		lose(monitor);
	monitor->retry_msec = MIN(monitor->retry_msec * 2, RETRY_MAX_MSEC);
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

/* Waits for what comes next and does it. -1 to go on, else the exit status. */
static int step(struct monitor *monitor)
{
	struct connection *connection = monitor->ctl->connection;
	struct pollfd fds[] = {
		{.fd = monitor->signals, .events = POLLIN},
		{.fd = connection ? connection_fd(connection) : -1, .events = POLLIN},
		{.fd = fileno(stdout)}, /* POLLERR: whoever read the pipe is gone */
	};
	int n = poll(fds, G_N_ELEMENTS(fds), connection ? -1 : monitor->retry_msec);
	int r = CTL_OK;

	if (n < 0 && errno != EINTR) {
		ctl_error("cannot wait for events: %s", g_strerror(errno));
		return CTL_FAILURE;
	}
	if (fds[0].revents)
		return CTL_OK;
	if (fds[2].revents & POLLERR)
		return CTL_FAILURE;
	if (connection)
		r = drain(monitor);
	else if (n == 0)
		try_again(monitor);
	return r == CTL_OK ? -1 : r;
}

static int watch(struct monitor *monitor)
{
	auto_fd signals = block_signals();
	int r;

	if (signals < 0) {
		ctl_error("cannot wait for signals: %s", g_strerror(-signals));
		return CTL_FAILURE;
	}
	monitor->signals = signals;
	r = begin(monitor, false);
	if (r < 0 && !monitor->ctl->connection)
		return ctl_status_of(r);
	if (r < 0)
		lose(monitor);
	do {
		r = step(monitor);
	} while (r < 0);
	return r;
}

int monitor_run(struct ctl *ctl, int argc, char **argv)
{
	const GOptionEntry entries[] = {CTL_OPTION_UID, {0}};
	struct monitor monitor = {.ctl = ctl, .retry_msec = RETRY_MIN_MSEC};
	g_autofree char *address = NULL;
	json_auto_t *found = NULL;
	int r;

	r = ctl_options(
		ctl, entries, "[NAME]",
		"Shows events as they come, the present sessions first, until interrupted.\n"
		"It goes on when the daemon is restarted.",
		0, 1, &argc, &argv);
	if (r != CTL_OK)
		return r;
	if (ctl->uid >= 0 && argc < 2) {
		ctl_error("monitor takes --uid with a NAME only");
		return CTL_USAGE;
	}

	monitor.name = argv[1]; /* NULL at the end */
	monitor.uid = ctl->uid;
	address = argc > 1 ? pci_address_complete(argv[1]) : NULL;
	if (address) {
		r = ctl_find_session(ctl, argv[1], &found);
		if (r != CTL_OK)
			return r;
		monitor.name = output_string(found, "name");
		monitor.uid = output_int(found, "uid");
	}
	return watch(&monitor);
}
