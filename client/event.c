/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens to the session while its VMM does something else. A second connection carries the
 * daemon's Monitor; the fd that the VMM polls is an epoll of it or, while there is none, of a timer
 * that retries. It is made when first asked for: a VMM that does not poll has no second connection.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "client/cpr.h"
#include "common/fd.h"

#define RETRY_MSEC 200
/* The VMM has other things to do than to wait for room in the backlog. */
#define ROOM_MSEC 10
/* How long a daemon that has accepted the connection may take to answer, before the next try. */
#define PROBE_MSEC 2000

void event_init(struct vfio_cpr *cpr)
{
	cpr->events = (struct monitor_link){.epoll = -1, .timer = -1};
}

/* No epoll_ctl here: in a child it would act on the parent's epoll as well. */
void event_clear(struct vfio_cpr *cpr)
{
	g_clear_pointer(&cpr->events.monitor, connection_close);
	fd_close(&cpr->events.timer);
	fd_close(&cpr->events.epoll);
}

static void timer_set(struct monitor_link *events, int msec)
{
	struct itimerspec when = {
		.it_value = {.tv_sec = msec / 1000, .tv_nsec = msec % 1000 * 1000000L},
	};

	(void)timerfd_settime(events->timer, 0, &when, NULL);
}

/* Whether the timer ran out; it is stopped then. */
static bool timer_expired(struct monitor_link *events)
{
	uint64_t n;

	return read(events->timer, &n, sizeof(n)) == sizeof(n);
}

static void monitor_close(struct vfio_cpr *cpr)
{
	struct monitor_link *events = &cpr->events;

	g_clear_pointer(&events->monitor, connection_close);
	events->answered = false;
}

/* Starts to listen; the daemon's first answer tells that it is there. Retries if it is not. */
static void monitor_open(struct vfio_cpr *cpr)
{
	struct monitor_link *events = &cpr->events;
	struct epoll_event event = {.events = EPOLLIN};
	int r;

	r = connection_open(cpr->path, ROOM_MSEC, &events->monitor);
	if (r == 0)
		r = connection_call_more(events->monitor, SESSION_METHOD("Monitor"),
					 json_pack("{s:s}", "name", cpr->session));
	if (r == 0 &&
	    epoll_ctl(events->epoll, EPOLL_CTL_ADD, connection_fd(events->monitor), &event) < 0)
		r = -errno;
	if (r < 0)
		monitor_close(cpr);
	timer_set(events, r < 0 ? RETRY_MSEC : PROBE_MSEC);
}

static void monitor_reopen(struct vfio_cpr *cpr)
{
	monitor_close(cpr);
	monitor_open(cpr);
}

void event_session_changed(struct vfio_cpr *cpr)
{
	if (cpr->events.epoll < 0 || !cpr->is_protected)
		return;
	monitor_close(cpr);
	timer_set(&cpr->events, 0);
	if (cpr->session && !cpr->is_released)
		monitor_open(cpr);
}

int vfio_cpr_get_fd(struct vfio_cpr *cpr)
{
	struct monitor_link *events = &cpr->events;
	struct epoll_event event = {.events = EPOLLIN};

	if (!*cpr->own_process)
		return cpr_check_slow(cpr);
	if (events->epoll >= 0)
		return events->epoll;
	events->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	events->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (events->timer < 0 || events->epoll < 0 ||
	    epoll_ctl(events->epoll, EPOLL_CTL_ADD, events->timer, &event) < 0) {
		int error = -errno;

		event_clear(cpr);
		return cpr_fail(cpr, error, "cannot make an fd for events: %s", g_strerror(-error));
	}
	event_session_changed(cpr);
	return events->epoll;
}

int vfio_cpr_get_events(struct vfio_cpr *cpr)
{
	(void)cpr;
	return EPOLLIN; /* the same number as POLLIN */
}

/* Looks through an answer of Monitor for the end of this session. */
static void events_decode(struct vfio_cpr *cpr, json_t *answer)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(answer, "events"), i, item)
	{
		const char *event = json_string_value(json_object_get(item, "event"));
		const char *name = json_string_value(json_object_get(item, "name"));

		if (event && name && strcmp(event, "released") == 0 &&
		    strcmp(name, cpr->session) == 0)
			cpr->events.released = true;
	}
}

/*
 * Reads what the daemon said. 0: all read. -errno: the connection is lost, or of no use. An error
 * answer (a daemon that lost everything knows no such session) tells as well that it is there.
 */
static int monitor_read(struct vfio_cpr *cpr)
{
	for (;;) {
		auto_call_error error = {0};
		json_t *answer = NULL;
		int r;

		r = connection_next(cpr->events.monitor, 0, &answer, NULL, NULL, &error);
		if (r == 0)
			return 0;
		if (r > 0 || error.name[0] != '\0')
			cpr->events.answered = true;
		if (r < 0)
			return r;
		events_decode(cpr, answer);
		json_decref(answer);
	}
}

/* The daemon is there: makes sure that the session is, too. Returns whether it is. */
static bool session_is_back(struct vfio_cpr *cpr)
{
	link_check(cpr);
	return link_connect(cpr, 0) == 0;
}

/* One step while the connection is lost: the timer ran out, or the daemon said something. */
static bool try_again(struct vfio_cpr *cpr)
{
	struct monitor_link *events = &cpr->events;
	bool expired = timer_expired(events);

	if (expired && !events->answered)
		monitor_reopen(cpr);
	if (!events->monitor)
		return false;
	if (monitor_read(cpr) < 0 && !events->answered) {
		monitor_close(cpr);
		timer_set(events, RETRY_MSEC);
		return false;
	}
	if (!events->answered)
		return false;
	if (!session_is_back(cpr)) {
		monitor_close(cpr);
		timer_set(events, RETRY_MSEC);
		return false;
	}
	timer_set(events, 0);
	return true;
}

int vfio_cpr_process(struct vfio_cpr *cpr, enum vfio_cpr_event *ret_event)
{
	struct monitor_link *events = &cpr->events;
	enum vfio_cpr_event event = VFIO_CPR_EVENT_NONE;
	int r;

	if (!*cpr->own_process)
		return cpr_check_slow(cpr);
	r = vfio_cpr_get_fd(cpr);
	if (r < 0)
		return r;

	if (cpr->is_protected && cpr->session && !cpr->is_released) {
		if (events->told_lost) {
			if (try_again(cpr)) {
				events->told_lost = false;
				event = VFIO_CPR_EVENT_CONNECTED;
			}
		} else if (!events->monitor || monitor_read(cpr) < 0) {
			monitor_close(cpr);
			timer_set(events, RETRY_MSEC);
			events->told_lost = true;
			event = VFIO_CPR_EVENT_DISCONNECTED;
		} else if (timer_expired(events) && !events->answered) {
			timer_set(events, PROBE_MSEC);
		}
	}
	/* If the session has ended, that matters more than a connection that was lost just then. */
	if (events->released) {
		events->released = false;
		cpr->is_released = true;
		event_session_changed(cpr);
		event = VFIO_CPR_EVENT_RELEASED;
	}
	*ret_event = event;
	return 0;
}
