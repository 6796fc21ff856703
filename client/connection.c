/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A Varlink client over one unix socket: the message out, the answer in, and a deadline for both.
 *
 * The socket is non-blocking and every wait is a poll, so that a daemon which hangs costs its
 * caller the time it allowed and no more. Whatever goes wrong below the level of an answer makes
 * the connection useless: half a message may be on its way. Its owner closes it and makes another.
 */
#include "client/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "common/error-name.h"
#include "common/fd.h"
#include "common/frame.h"

#define VARLINK_SERVICE "org.varlink.service."

/* An answer to Show names every object. What is larger than this is a fault of the daemon. */
#define ANSWER_MAX_BYTES (64 * 1024 * 1024)

/*
 * The kernel tells one of those who wait for room that there is some. If that one has been killed or has
 * waited long enough, nobody is told; so nobody waits for long without a look (unix_wait_for_peer(),
 * net/unix/af_unix.c).
 */
#define LOOK_FOR_ROOM_MSEC 100

struct connection {
	int fd;
	struct frame_reader reader;
};

void call_error_clear(struct call_error *error)
{
	free(error->message);
	*error = (struct call_error){0};
}

/* A deadline in microseconds of the monotonic clock; -1: none. */
static gint64 deadline_after(int timeout_msec)
{
	return timeout_msec < 0 ? -1 : g_get_monotonic_time() + (gint64)timeout_msec * 1000;
}

/* Connects once, and sleeps for room in the backlog meanwhile; the first in the queue is served first. */
static int connect_sleeping(int fd, const struct sockaddr_un *address, gint64 usec)
{
	struct timeval patience = {.tv_usec = CLAMP(usec, 1, LOOK_FOR_ROOM_MSEC * 1000)};
	int r = 0;

	if (fcntl(fd, F_SETFL, 0) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
	    connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		r = -errno;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 && r == 0)
		r = -errno;
	return r;
}

/* A unix socket connects at once or, with a full backlog, not at all (EAGAIN). */
static int connect_within(int fd, const struct sockaddr_un *address, int timeout_msec)
{
	gint64 deadline = deadline_after(timeout_msec), left;
	int r;

	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return 0;
	r = -errno;
	while (r == -EAGAIN || r == -EINTR) {
		left = deadline - g_get_monotonic_time();
		if (left <= 0)
			return -EAGAIN;
		r = connect_sleeping(fd, address, left);
	}
	return r;
}

int connection_open(const char *path, int timeout_msec, struct connection **ret_connection)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct connection *connection;
	auto_fd fd = -1;
	int r;

	/* The kernel takes it for an abstract address, at which anybody may listen. */
	if (!*path)
		return -EINVAL;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = connect_within(fd, &address, timeout_msec);
	if (r < 0)
		return r;

	connection = g_new0(struct connection, 1);
	connection->fd = fd_take(&fd);
	frame_reader_init(&connection->reader, ANSWER_MAX_BYTES, NULL, NULL);
	connection->reader.is_of_writer = true;
	*ret_connection = connection;
	return 0;
}

void connection_close(struct connection *connection)
{
	if (!connection)
		return;
	frame_reader_clear(&connection->reader);
	close(connection->fd);
	g_free(connection);
}

int connection_fd(const struct connection *connection)
{
	return connection->fd;
}

/* Waits for events. 0: they came. -ETIMEDOUT. */
static int connection_wait(struct connection *connection, short events, gint64 deadline)
{
	struct pollfd pollfd = {.fd = connection->fd, .events = events};

	for (;;) {
		int timeout = -1;
		int n;

		if (deadline >= 0) {
			gint64 left = deadline - g_get_monotonic_time();

			timeout = left <= 0 ? 0 : (int)((left + 999) / 1000);
		}
		n = poll(&pollfd, 1, timeout);
		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int connection_send(struct connection *connection, const char *method, json_t *parameters,
			   bool more, const int *fds, size_t n_fds, gint64 deadline)
{
	struct frame_writer writer = {0};
	json_t *message;
	char *text;
	int r;

	message = json_pack("{s:s, s:o}", "method", method, "parameters",
			    parameters ? parameters : json_object());
	if (!message)
		return -EINVAL; /* parameters were NULL by an error in packing, and are freed */
	if (more)
		json_object_set_new(message, "more", json_true());
	text = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	if (!text)
		return -ENOMEM;

	frame_writer_set(&writer, text, fds, n_fds);
	for (;;) {
		r = frame_writer_send(&writer, connection->fd);
		if (r != 0)
			break;
		r = connection_wait(connection, POLLOUT, deadline);
		if (r < 0)
			break;
	}
	frame_writer_clear(&writer);
	return r < 0 ? r : 0;
}

/* The next whole message. 0, or -ETIMEDOUT, -ECONNRESET, -EPROTO, -EMFILE, -errno. */
static int connection_receive(struct connection *connection, gint64 deadline, json_t **ret_message,
			      struct fdlist *ret_fds)
{
	for (;;) {
		auto_fdlist fds = FDLIST_INIT;
		char *text = NULL;
		size_t size;
		int r;

		r = frame_reader_take(&connection->reader, &text, &size, &fds);
		if (r < 0)
			return -EPROTO;
		if (r > 0) {
			json_t *message = NULL;

			if (!frame_too_deep(text, size))
				message = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
			free(text);
			if (!json_is_object(message)) {
				json_decref(message);
				return -EPROTO;
			}
			fdlist_move(ret_fds, &fds);
			*ret_message = message;
			return 0;
		}

		r = frame_reader_receive(&connection->reader, connection->fd);
		if (r == 0)
			return -ECONNRESET;
		if (r == -EAGAIN) {
			r = connection_wait(connection, POLLIN, deadline);
			if (r < 0)
				return r;
		} else if (r == -ENOBUFS) {
			return -EMFILE; /* MSG_CTRUNC: RLIMIT_NOFILE of this process */
		} else if (r == -EBADMSG || r == -EMSGSIZE) {
			return -EPROTO;
		} else if (r == -EPIPE) {
			return -ECONNRESET;
		} else if (r < 0) {
			return r;
		}
	}
}

/* Turns an error answer into -errno, its sentence and its name. */
static int error_decode(const char *name, json_t *parameters, struct call_error *ret_error)
{
	const char *last = strrchr(name, '.');
	const char *message = json_string_value(json_object_get(parameters, "message"));
	json_int_t number = json_integer_value(json_object_get(parameters, "errno"));
	int error;

	last = last ? last + 1 : name;
	error = error_name_to_errno(last);
	if (error == 0)
		error = -EPROTO;
	if (number > 0 && number < 4096)
		error = -(int)number;

	call_error_clear(ret_error);
	g_strlcpy(ret_error->name, last, sizeof(ret_error->name));
	if (message) {
		ret_error->message = strdup(message);
	} else {
		const char *parameter = json_string_value(json_object_get(parameters, "parameter"));
		g_autofree char *sentence = g_strdup_printf(
			"the daemon refused the call: %s%s%s%s", name, parameter ? " (" : "",
			parameter ? parameter : "", parameter ? ")" : "");

		ret_error->message = strdup(sentence);
	}
	return error;
}

/* Splits an answer. Consumes message. 0, or what its error says. */
static int answer_decode(json_t *message, json_t **ret_parameters, bool *ret_continues,
			 struct call_error *ret_error)
{
	json_t *parameters = json_object_get(message, "parameters");
	const char *error = json_string_value(json_object_get(message, "error"));
	int r = 0;

	if (error) {
		r = error_decode(error, parameters, ret_error);
	} else if (parameters && !json_is_object(parameters)) {
		r = -EPROTO;
	} else {
		*ret_continues = json_is_true(json_object_get(message, "continues"));
		if (ret_parameters)
			*ret_parameters = parameters ? json_incref(parameters) : json_object();
	}
	json_decref(message);
	return r;
}

int connection_call(struct connection *connection, const char *method, json_t *parameters,
		    const int *fds, size_t n_fds, int timeout_msec, json_t **ret_parameters,
		    struct fdlist *ret_fds, struct call_error *ret_error)
{
	gint64 deadline = deadline_after(timeout_msec);
	auto_fdlist received = FDLIST_INIT;
	json_t *message = NULL;
	json_t *answer = NULL;
	bool continues = false;
	int r, sent;

	sent = connection_send(connection, method, parameters, false, fds, n_fds, deadline);
	/* If the daemon has closed the connection, its reason may be there to be read. */
	if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
		return sent;
	r = connection_receive(connection, deadline, &message, &received);
	if (r < 0)
		return sent < 0 ? -ECONNRESET : r;
	r = answer_decode(message, &answer, &continues, ret_error);
	if (r < 0)
		return r;
	if (continues || (!ret_fds && received.n > 0)) {
		json_decref(answer);
		return -EPROTO;
	}
	if (ret_fds)
		fdlist_move(ret_fds, &received);
	if (ret_parameters)
		*ret_parameters = answer;
	else
		json_decref(answer);
	return 0;
}

int connection_call_more(struct connection *connection, const char *method, json_t *parameters)
{
	/* Small enough for any empty socket; no daemon is waited for. */
	return connection_send(connection, method, parameters, true, NULL, 0, deadline_after(0));
}

int connection_next(struct connection *connection, int timeout_msec, json_t **ret_parameters,
		    struct fdlist *ret_fds, bool *ret_continues, struct call_error *ret_error)
{
	auto_fdlist received = FDLIST_INIT;
	json_t *message = NULL;
	json_t *answer = NULL;
	bool continues = false;
	int r;

	r = connection_receive(connection, deadline_after(timeout_msec), &message, &received);
	if (r == -ETIMEDOUT)
		return 0;
	if (r < 0)
		return r;
	r = answer_decode(message, &answer, &continues, ret_error);
	if (r < 0)
		return r;
	if (!ret_fds && received.n > 0)
		r = -EPROTO;
	else if (!continues && json_object_size(answer) == 0)
		r = -ENODATA;
	if (r < 0) {
		json_decref(answer);
		return r;
	}
	if (ret_fds)
		fdlist_move(ret_fds, &received);
	if (ret_continues)
		*ret_continues = continues;
	if (ret_parameters)
		*ret_parameters = answer;
	else
		json_decref(answer);
	return 1;
}
