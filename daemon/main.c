/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprd: holds VFIO descriptors for VMMs that restart. Options, sockets, the loop, its end.
 *
 * A request's way: server.c accepts, peer.c frames, call.c parses, methods*.c check and act on a
 * session (session.c), its life (life.c) and its objects (object.c), kernel.c makes the calls.
 */
#include <glib.h>
#include <jansson.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/version.h"
#include "daemon/devnumbers.h"
#include "daemon/eventfdcheck.h"
#include "daemon/fdinfo.h"
#include "daemon/fdstore.h"
#include "daemon/keep.h"
#include "daemon/leakcheck.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/methods.h"
#include "daemon/notify.h"
#include "daemon/recovery.h"
#include "daemon/sandbox.h"
#include "daemon/server.h"
#include "daemon/startup.h"
#include "daemon/surroundings.h"
#include "daemon/worker.h"

struct options {
	char *socket;
	char *mode_text;
	guint64 mode;
	gint fdstore_max;
	gboolean version;
};

static void free_options(struct options *options)
{
	g_free(options->socket);
	g_free(options->mode_text);
}

static bool parse_mode(struct options *options)
{
	return !options->mode_text ||
	       g_ascii_string_to_unsigned(options->mode_text, 8, 0, 0777, &options->mode, NULL);
}

/* What is wrong with the options, or NULL. */
static const char *problem_of(struct options *options)
{
	if (!parse_mode(options))
		return "the mode is an octal number up to 0777";
	if (options->fdstore_max < 0)
		return "--fdstore-max is a number of descriptors, 0 or more";
	/* The kernel would take it for an address of its own choice, which every user can reach. */
	if (options->socket && !*options->socket)
		return "the path after --socket is empty (a variable that is not set?)";
	if (!options->socket && !options->version && sd_listen_fds(0) <= 0)
		return "no socket to listen on: start it by systemd (systemctl start "
		       "vfio-cprd.socket), or with --socket PATH";
	return NULL;
}

static bool parse_options(struct options *options, int argc, char **argv)
{
	const GOptionEntry entries[] = {
		{"socket", 's', 0, G_OPTION_ARG_FILENAME, &options->socket,
		 "Listen on the unix socket PATH, besides one from systemd", "PATH"},
		{"mode", 'm', 0, G_OPTION_ARG_STRING, &options->mode_text,
		 "Access mode of that socket, octal (0600)", "MODE"},
		{"fdstore-max", 0, 0, G_OPTION_ARG_INT, &options->fdstore_max,
		 "FileDescriptorStoreMax= of the service, where systemd (before 254) does not tell",
		 "N"},
		{"version", 0, 0, G_OPTION_ARG_NONE, &options->version, "Print the version", NULL},
		G_OPTION_ENTRY_NULL,
	};
	g_autoptr(GOptionContext)
		context = g_option_context_new("- hold VFIO devices while their VMM restarts");
	g_autoptr(GError) error = NULL;
	const char *problem;

	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_set_description(
		context, "Started by systemd, it takes its sockets from there (vfio-cprd.socket).\n"
			 "See vfio-cprd(8).");
	if (!g_option_context_parse(context, &argc, &argv, &error))
		problem = error->message;
	else
		problem = argc > 1 ? "it takes options only" : problem_of(options);
	if (problem)
		fprintf(stderr, "vfio-cprd: %s. Try --help.\n", problem);
	return !problem;
}

/* The sockets of systemd, and what it has kept of the last daemon; or the one of --socket. */
static bool open_sockets(struct server *server, const struct options *options,
			 struct own_socket *ret_own)
{
	int fd, n = recovery_run(server);

	if (!options->socket && n == 0)
		log_error(NULL, "systemd has passed no socket to listen on: look at "
				"ListenStream= of vfio-cprd.socket");
	if (!options->socket)
		return n > 0;
	fd = listen_at(options->socket, options->mode, ret_own);
	if (fd >= 0)
		server_listen(server, fd);
	return fd >= 0;
}

static void on_stop(evutil_socket_t number, short events, void *data)
{
	struct server *server = data;
	g_autofree char *held = server_describe_held(server);

	(void)events;
	log_notice(NULL, "stopping on signal %d", (int)number);
	if (held && fdstore_outlives_stop())
		log_notice(NULL, "stays in systemd's fd store: %s", held);
	else if (held && fdstore_exists())
		log_warning(
			NULL,
			"stays in systemd's fd store for a restart: %s; if this is a stop, systemd "
			"(before 254) closes them, and devices whose VMM is dead are reset",
			held);
	else if (held)
		log_warning(NULL,
			    "ends with the daemon: %s; devices whose VMM is dead are reset now",
			    held);
	server_stop(server);
}

static void on_reload(evutil_socket_t number, short events, void *data)
{
	(void)number;
	(void)events;
	recovery_again(data);
	notify_reloaded();
}

static void do_nothing(int number)
{
	(void)number;
}

static struct event *catch_signal(struct event_base *base, int number, event_callback_fn callback,
				  void *data)
{
	struct event *event;

	/*
	 * When the event is freed, libevent puts this handler back: a second signal must not kill
	 * the daemon while it closes devices. SIG_IGN would throw away one that is blocked now.
	 */
	signal(number, do_nothing);
	event = evsignal_new(base, number, callback, data);
	event_add(event, NULL);
	return event;
}

/* After recovery, which needs all that it has, and before the first peer is listened to. */
static void enter_sandbox(void)
{
	int r = sandbox_enter(leakcheck_is_on());

	if (r < 0)
		log_warning(
			NULL,
			"cannot give up the system calls that it does not need (seccomp): %s: goes "
			"on with all of them",
			g_strerror(-r));
}

static void serve(struct event_base *base, struct server *server)
{
	struct event *terminate = catch_signal(base, SIGTERM, on_stop, server);
	struct event *interrupt = catch_signal(base, SIGINT, on_stop, server);
	struct event *hangup = catch_signal(base, SIGHUP, on_reload, server);
	g_autofree char *warning = server_warning(server, 0);

	enter_sandbox();
	notify_ready();
	fdstore_probe(base);
	server_changed(server);
	log_notice(NULL, "version %s is ready%s%s", VFIO_CPRD_VERSION, warning ? ": " : "",
		   warning ? warning : "");
	startup_take_signals();
	event_base_dispatch(base);
	fdstore_forget();
	event_free(terminate);
	event_free(interrupt);
	event_free(hangup);
}

/* The event loop and the threads for what it must not do, or NULL. */
static struct event_base *begin(void)
{
	struct event_base *base = event_base_new();
	int r = base ? log_start() : -ENOMEM;

	if (r == 0)
		r = worker_start(base);
	if (r == 0)
		r = notify_begin(base);
	if (r == 0)
		return base;
	log_error(NULL, "cannot start its event loop and threads: %s%s", g_strerror(-r),
		  r == -EAGAIN ? " (TasksMax= of the unit, or the limit on processes of this user)"
			       : "");
	log_stop();
	return NULL;
}

int main(int argc, char **argv)
{
	__attribute__((cleanup(free_options))) struct options options = {.mode = 0600};
	struct event_base *base;
	struct server *server;
	struct own_socket own = {0};
	bool listening, is_over;

	startup_init();
	/* So that --help prints the user's characters. Messages stay in one language. */
	setlocale(LC_CTYPE, "");
	log_init();
	if (!parse_options(&options, argc, argv))
		return 2;
	if (options.version) {
		printf("vfio-cprd %s\n", VFIO_CPRD_VERSION);
		return 0;
	}
	startup_close_strangers();
	startup_raise_limits();
	startup_make_room();
	json_object_seed(0);
	/* Before there are peers. What fails is told with each refusal, or done in another way. */
	fdinfo_begin();
	eventfdcheck_begin();
	surroundings_look();
	fdstore_init(MAX(options.fdstore_max, 0));
	base = begin();
	if (!base)
		return 1;
	server = server_new(base, methods_dispatch);
	listening = open_sockets(server, &options, &own);
	if (listening)
		serve(base, server);
	notify_end();
	listen_end(&own);
	is_over = server_free(server);
	if (is_over) {
		keep_stop();
		is_over = worker_stop();
	}
	log_stop();
	/* What threads still work on is left alone, and they to the kernel. */
	if (!is_over)
		_exit(listening ? 0 : 1);
	event_base_free(base);
	fdinfo_end();
	eventfdcheck_end();
	devnumbers_end();
	return listening && leakcheck_descriptors() == 0 ? 0 : 1;
}
