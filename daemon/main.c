/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprd: holds VFIO descriptors for VMMs that restart. Options, sockets, signals, the loop.
 *
 * A request's way: server.c accepts, peer.c frames and parses, methods*.c check and act on a
 * session (session.c) and its objects (object.c), kernel.c makes the calls.
 */
#include <errno.h>
#include <glib.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/version.h"
#include "daemon/leakcheck.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "daemon/worker.h"

#define BACKLOG 1024

struct options {
	char *socket;
	char *mode;
	gboolean version;
};

static bool parse_options(struct options *options, int argc, char **argv)
{
	const GOptionEntry entries[] = {
		{"socket", 's', 0, G_OPTION_ARG_FILENAME, &options->socket,
		 "Listen on the unix socket PATH, not on one from systemd", "PATH"},
		{"mode", 'm', 0, G_OPTION_ARG_STRING, &options->mode,
		 "Access mode of that socket, octal (0600)", "MODE"},
		{"version", 0, 0, G_OPTION_ARG_NONE, &options->version, "Print the version", NULL},
		G_OPTION_ENTRY_NULL,
	};
	g_autoptr(GOptionContext) context =
		g_option_context_new("- hold VFIO devices while their VMM restarts");
	g_autoptr(GError) error = NULL;

	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_set_description(
		context, "Started by systemd, it takes its sockets from there (vfio-cprd.socket).\n"
			 "See vfio-cprd(8).");
	if (g_option_context_parse(context, &argc, &argv, &error) && argc == 1)
		return true;
	fprintf(stderr, "vfio-cprd: %s. Try --help.\n",
		error ? error->message : "it takes options only");
	return false;
}

/* Whether a socket that exists has nobody behind it: left by a daemon that died. */
static bool is_stale(const struct sockaddr_un *address)
{
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	       errno == ECONNREFUSED;
}

static int listen_at(const char *path, mode_t mode)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int r;

	if (fd < 0)
		return -errno;
	if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	if (is_stale(&address))
		unlink(path);
	mask = umask(0777 & ~mode);
	r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0
		    ? -errno
		    : 0;
	umask(mask);
	return r < 0 ? r : fd_take(&fd);
}

/* The sockets of systemd, or the one of --socket. */
static bool open_sockets(struct server *server, const struct options *options)
{
	int fd, n = sd_listen_fds(1);

	for (int i = 0; i < n; i++) {
		if (sd_is_socket_unix(SD_LISTEN_FDS_START + i, SOCK_STREAM, 1, NULL, 0) <= 0) {
			log_error(NULL,
				  "descriptor %d from systemd is no listening unix stream socket: correct "
				  "vfio-cprd.socket",
				  SD_LISTEN_FDS_START + i);
			return false;
		}
		server_listen(server, SD_LISTEN_FDS_START + i);
	}
	if (!options->socket && n <= 0)
		log_error(NULL, "no socket to listen on: start it by systemd (vfio-cprd.socket), or with "
				"--socket PATH");
	if (!options->socket)
		return n > 0;
	fd = listen_at(options->socket,
		       options->mode ? strtoul(options->mode, NULL, 8) & 0777 : 0600);
	if (fd < 0) {
		log_error(NULL, "cannot listen on %s: %s", options->socket, g_strerror(-fd));
		return false;
	}
	server_listen(server, fd);
	return true;
}

/* As many descriptors as may be, and room to be charged for pinned memory (CHANGE_PROCESS). */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	limit = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &limit);
	}
}

static void on_signal(evutil_socket_t number, short events, void *data)
{
	struct server *server = data;
	size_t descriptors = server_descriptors(server);

	(void)events;
	log_notice(NULL, "stopping on signal %d", (int)number);
	if (descriptors > 0)
		log_warning(NULL,
			    "%u sessions with %zu descriptors end with the daemon: devices whose VMM is "
			    "dead are reset now",
			    g_hash_table_size(server->sessions), descriptors);
	server_stop(server);
}

static void serve(struct event_base *base, struct server *server)
{
	struct event *terminate = evsignal_new(base, SIGTERM, on_signal, server);
	struct event *interrupt = evsignal_new(base, SIGINT, on_signal, server);

	event_add(terminate, NULL);
	event_add(interrupt, NULL);
	sd_notify(0, "READY=1");
	server_changed(server);
	log_notice(NULL, "vfio-cprd %s is ready: %s", VFIO_CPRD_VERSION, server_warning(server));
	event_base_dispatch(base);
	event_free(terminate);
	event_free(interrupt);
}

int main(int argc, char **argv)
{
	struct options options = {0};
	struct event_base *base;
	struct server *server;
	bool listening;

	if (!parse_options(&options, argc, argv))
		return 2;
	if (options.version) {
		printf("vfio-cprd %s\n", VFIO_CPRD_VERSION);
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	json_object_seed(0);
	raise_limits();
	base = event_base_new();
	if (!base || worker_start(base) < 0) {
		log_error(NULL, "cannot start: no event loop");
		return 1;
	}
	server = server_new(base);
	listening = open_sockets(server, &options);
	if (listening)
		serve(base, server);
	server_free(server);
	worker_stop();
	event_base_free(base);
	if (options.socket && listening)
		unlink(options.socket);
	g_free(options.socket);
	g_free(options.mode);
	return listening && leakcheck_descriptors() == 0 ? 0 : 1;
}
