/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way to the daemon, over the daemon's own death. What it had acknowledged its successor still
 * has; a call that got no answer is repeated on a new connection, after the session is resumed on
 * it. Every call of the protocol allows that: it is idempotent, or says that it was done already.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "client/cpr.h"
#include "client/refusal.h"

#define BACKOFF_MIN_MSEC 10
#define BACKOFF_MAX_MSEC 200
/* A daemon that is there may have a full backlog for a moment, and is waited for all the same. */
#define ROOM_MIN_MSEC 1000
/* A daemon that is there may wait for the kernel: the last close of a device takes seconds. */
#define ANSWER_MIN_MSEC 30000

int link_answer_timeout(const struct vfio_cpr *cpr)
{
	return MAX(MIN(cpr->timeout_msec, (uint32_t)G_MAXINT), ANSWER_MIN_MSEC);
}

/* If the daemon dies of a call, repeating it without end would kill each new daemon. */
#define REPEATS_MAX 50

/* Whether the connection broke, so that the call may succeed on a new one. */
static bool is_lost(int error, const struct call_error *answer)
{
	return (!answer || answer->name[0] == '\0') &&
	       (error == -ECONNRESET || error == -EPIPE || error == -ENOTCONN);
}

/* Whether connect() failed because no daemon is there, which may change when one is started. */
static bool is_away(int error, const struct call_error *answer)
{
	return answer->name[0] == '\0' && (error == -ECONNREFUSED || error == -ENOENT ||
					   error == -EAGAIN || error == -ECONNRESET);
}

static void link_drop(struct vfio_cpr *cpr)
{
	g_clear_pointer(&cpr->connection, connection_close);
}

void link_check(struct vfio_cpr *cpr)
{
	struct pollfd pollfd = {.events = POLLIN};

	if (!cpr->connection)
		return;
	/* Between calls the daemon has nothing to say: readable means closed. */
	pollfd.fd = connection_fd(cpr->connection);
	if (poll(&pollfd, 1, 0) > 0)
		link_drop(cpr);
}

static int link_try(struct vfio_cpr *cpr, int room_msec, struct call_error *ret_error)
{
	struct connection *connection = NULL;
	int r;

	r = connection_open(cpr->path, room_msec, &connection);
	if (r == 0 && cpr->session) {
		r = cpr->resume(cpr, connection, link_answer_timeout(cpr), ret_error);
		if (r < 0)
			connection_close(connection);
	}
	if (r == 0)
		cpr->connection = connection;
	return r;
}

/* The sentence of a failure that no daemon has explained. */
static int link_fail(struct vfio_cpr *cpr, int error, const struct call_error *answer)
{
	if (answer->message)
		return cpr_fail(cpr, error, "%s", answer->message);
	if (error == -EMFILE)
		return cpr_fail(
			cpr, error,
			"cannot receive descriptors from vfio-cprd: %s: raise RLIMIT_NOFILE "
			"of this process",
			g_strerror(EMFILE));
	if (error == -ETOOMANYREFS)
		return cpr_fail(
			cpr, error,
			"cannot send descriptors to vfio-cprd: %s: too many are on their way "
			"for this user; raise RLIMIT_NOFILE",
			g_strerror(ETOOMANYREFS));
	if (error == -EPROTO)
		return cpr_fail(cpr, error,
				"the daemon at %s answered what this library does not understand: "
				"check that both are of the same version",
				cpr->path);
	return cpr_fail(cpr, error,
			"no answer from the daemon at %s: %s: check vfio-cprd.socket and "
			"vfio-cprd.service",
			cpr->path, g_strerror(-error));
}

int link_connect(struct vfio_cpr *cpr, uint32_t timeout_msec)
{
	gint64 deadline = g_get_monotonic_time() + (gint64)timeout_msec * 1000;
	guint backoff = BACKOFF_MIN_MSEC;

	if (cpr->connection)
		return 0;
	for (;;) {
		auto_call_error error = {0};
		gint64 left = (deadline - g_get_monotonic_time()) / 1000;
		int r;

		r = link_try(cpr, (int)CLAMP(left, ROOM_MIN_MSEC, G_MAXINT), &error);
		if (r == 0)
			return 0;
		if (!is_away(r, &error) && !is_lost(r, &error))
			return link_fail(cpr, r, &error);
		left = (deadline - g_get_monotonic_time()) / 1000;
		if (left <= 0) {
			g_autofree char *why = refusal_tell(cpr->path, r);

			return cpr_fail(cpr, timeout_msec > 0 ? -ETIMEDOUT : r,
					"no daemon at %s within %u ms: %s; what was stored is "
					"stored again then",
					cpr->path, timeout_msec, why);
		}
		g_usleep(MIN(left, backoff) * 1000);
		backoff = MIN(backoff * 2, BACKOFF_MAX_MSEC);
	}
}

int link_run(struct vfio_cpr *cpr, exchange_fn exchange, void *userdata, bool *ret_repeated,
	     char ret_name[64])
{
	gint64 deadline = g_get_monotonic_time() + (gint64)cpr->timeout_msec * 1000;
	unsigned int repeats = 0;

	if (ret_name)
		ret_name[0] = '\0';
	for (;;) {
		auto_call_error error = {0};
		int r;

		r = link_connect(cpr, cpr->timeout_msec);
		if (r < 0)
			return r;
		r = exchange(cpr, cpr->connection, link_answer_timeout(cpr), userdata, &error);
		if (ret_repeated)
			*ret_repeated = repeats > 0;
		if (r == 0)
			return 0;
		if (error.name[0] == '\0')
			link_drop(cpr);
		if (is_lost(r, &error) && repeats < REPEATS_MAX &&
		    (repeats == 0 || g_get_monotonic_time() < deadline)) {
			repeats++;
			continue;
		}
		if (ret_name)
			g_strlcpy(ret_name, error.name, 64);
		/* The daemon knows the attached session no more: an operator released it. */
		if (cpr->session && strcmp(error.name, "NotHolder") == 0) {
			cpr->is_released = cpr->events.released = true;
			return cpr_check_slow(cpr);
		}
		return link_fail(cpr, r, &error);
	}
}

struct call {
	const char *method;
	json_t *parameters;
	json_t *answer;
};

static int call_exchange(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			 void *userdata, struct call_error *ret_error)
{
	struct call *call = userdata;

	(void)cpr;
	return connection_call(connection, call->method, json_incref(call->parameters), NULL, 0,
			       timeout_msec, &call->answer, NULL, ret_error);
}

int link_call(struct vfio_cpr *cpr, const char *method, json_t *parameters, json_t **ret_parameters,
	      bool *ret_repeated, char ret_name[64])
{
	struct call call = {.method = method, .parameters = parameters};
	int r;

	if (!call.parameters)
		call.parameters = json_object();
	r = link_run(cpr, call_exchange, &call, ret_repeated, ret_name);
	json_decref(call.parameters);
	if (r < 0)
		return r;
	if (ret_parameters)
		*ret_parameters = call.answer;
	else
		json_decref(call.answer);
	return 0;
}
