/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads for what may block: daemon/worker.h. Work waits in two queues until a thread takes it. If
 * none is free, one is made, which goes when nothing comes for a while. Some are there for ever,
 * since a thread is not always to be had (TasksMax=, RLIMIT_NPROC, memory): all work is done even
 * then, if slowly. Those of them for ordinary work never take what may hang.
 *
 * Ends are queued, and told by an eventfd.
 */
#include "daemon/worker.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/kernel.h"
#include "daemon/log.h"

#define PERMANENT_THREADS  2			/* for ordinary work alone, from the start on */
#define SPARE_THREADS	   1			/* that wait for ever for work of any kind */
#define IDLE_USEC	   (2 * G_USEC_PER_SEC) /* how long others do */
#define HANG_PATIENCE_USEC (500 * 1000)		/* at the daemon's end, for what may hang */
#define LOOK_MSEC	   100

gint64 worker_patience_usec = 20 * G_USEC_PER_SEC; /* for other work */
unsigned int worker_closes;

/* Until a thread is tried for again. */
static const struct timeval start_pause = {.tv_usec = 250 * 1000};

struct work {
	void (*run)(void *data);
	void (*done)(void *data);
	void *data;
	bool may_hang;
};

/* Threads that take the same work. */
struct team {
	GCond changed;
	unsigned int waiting; /* for work; one that was just made is on its way there */
	unsigned int stay;    /* so many of those wait for ever */
	struct work *(*next)(void);
};

static struct {
	GMutex lock; /* for these: */
	GQueue ordinary, hanging, finished;
	struct team permanent, other;
	unsigned int threads;
	GCond ended; /* one of them */
	bool ending;

	struct event *event, *try_again; /* these are the loop's */
	int eventfd;
	bool is_short; /* a thread was not to be had, and none was since */
	unsigned int unfinished, unfinished_hanging;
} worker = {.eventfd = -1};

/* In the threads, and with the lock */

static struct work *next_ordinary(void)
{
	return g_queue_pop_head(&worker.ordinary);
}

/* What may hang goes first: ordinary work has other threads as well. */
static struct work *next_of_any_kind(void)
{
	struct work *work = g_queue_pop_head(&worker.hanging);

	return work ? work : next_ordinary();
}

static void do_work(struct team *team, struct work *work)
{
	team->waiting--;
	g_mutex_unlock(&worker.lock);
	work->run(work->data);
	g_mutex_lock(&worker.lock);
	team->waiting++;
	if (worker.ending)
		return; /* it hung, and nobody asks any more */
	g_queue_push_tail(&worker.finished, work);
	if (worker.finished.length == 1)
		eventfd_write(worker.eventfd, 1);
}

static bool may_stay(const struct team *team)
{
	return team->waiting <= team->stay;
}

/* false: nothing has come for so long. */
static bool wait_for_work(struct team *team, gint64 since)
{
	if (!may_stay(team))
		return g_cond_wait_until(&team->changed, &worker.lock, since + IDLE_USEC);
	g_cond_wait(&team->changed, &worker.lock);
	return true;
}

static void *in_thread(void *data)
{
	struct team *team = data;
	gint64 since = g_get_monotonic_time();
	bool is_late = false;

	g_mutex_lock(&worker.lock);
	for (;;) {
		struct work *work = team->next();

		if (work) {
			do_work(team, work);
			since = g_get_monotonic_time();
			is_late = false;
		} else if (worker.ending || (is_late && !may_stay(team))) {
			break;
		} else {
			is_late = !wait_for_work(team, since);
		}
	}
	team->waiting--;
	worker.threads--;
	g_cond_signal(&worker.ended);
	g_mutex_unlock(&worker.lock);
	return NULL;
}

/* In the loop: threads */

/* With the lock: so it counts before it looks for work. */
static int start_thread(struct team *team)
{
	int r = kernel->start_thread(in_thread, team);

	if (r < 0)
		return r;
	team->waiting++;
	worker.threads++;
	return 0;
}

static int start_some(struct team *team, unsigned int n)
{
	int r = 0;

	g_mutex_lock(&worker.lock);
	while (r == 0 && n-- > 0)
		r = start_thread(team);
	g_mutex_unlock(&worker.lock);
	return r;
}

/* With the lock. Whether more is queued than those who wait can take up at once. */
static bool is_thread_wanted(void)
{
	unsigned int hanging = worker.hanging.length, all = hanging + worker.ordinary.length;

	return hanging > worker.other.waiting ||
	       all > worker.other.waiting + worker.permanent.waiting;
}

/* How many were started, or -errno. */
static int start_wanted(void)
{
	int r = 0, n = 0;

	g_mutex_lock(&worker.lock);
	while (r == 0 && is_thread_wanted()) {
		r = start_thread(&worker.other);
		n++;
	}
	g_mutex_unlock(&worker.lock);
	return r < 0 ? r : n;
}

/* A failure is told once, until it is over. */
static void get_threads(void)
{
	int r = start_wanted();

	if (r < 0 && !worker.is_short)
		log_limited(
			RATELIMIT_NOBODY, G_LOG_LEVEL_WARNING, NULL,
			"cannot start a thread for now (%s), so that work waits for other work: "
			"look at TasksMax= of the unit, or the limit on processes of this user",
			g_strerror(-r));
	if (r > 0 && worker.is_short)
		log_notice(NULL, "threads can be started again");
	if (r != 0)
		worker.is_short = r < 0;
	if (r < 0)
		event_add(worker.try_again, &start_pause);
}

static void on_try_again(evutil_socket_t fd, short events, void *unused)
{
	(void)fd;
	(void)events;
	(void)unused;
	get_threads();
}

/* In the loop: work */

static void begin(struct work work)
{
	struct team *woken = &worker.other;

	if (work.may_hang)
		worker.unfinished_hanging++;
	else
		worker.unfinished++;
	g_mutex_lock(&worker.lock);
	g_queue_push_tail(work.may_hang ? &worker.hanging : &worker.ordinary,
			  g_memdup2(&work, sizeof(work)));
	/* One that is woken already, and has not taken what it was woken for, is no use here. */
	if (!work.may_hang && worker.ordinary.length <= worker.permanent.waiting)
		woken = &worker.permanent;
	g_cond_signal(&woken->changed);
	g_mutex_unlock(&worker.lock);
	if (!event_pending(worker.try_again, EV_TIMEOUT, NULL))
		get_threads();
}

static struct work *take_finished(void)
{
	struct work *work;

	g_mutex_lock(&worker.lock);
	work = g_queue_pop_head(&worker.finished);
	g_mutex_unlock(&worker.lock);
	return work;
}

static void tell_finished(void)
{
	struct work *work;

	while ((work = take_finished())) {
		if (work->may_hang)
			worker.unfinished_hanging--;
		else
			worker.unfinished--;
		if (work->done)
			work->done(work->data);
		g_free(work);
	}
}

static void on_finished(evutil_socket_t fd, short events, void *unused)
{
	eventfd_t count;

	(void)events;
	(void)unused;
	eventfd_read(fd, &count);
	tell_finished();
}

void worker_run(void (*run)(void *data), void (*done)(void *data), void *data)
{
	begin((struct work){run, done, data, false});
}

void worker_run_or_hang(void (*run)(void *data), void (*done)(void *data), void *data)
{
	begin((struct work){run, done, data, true});
}

/* Begin and end */

static int start_permanent(void)
{
	int r = start_some(&worker.permanent, PERMANENT_THREADS);

	return r < 0 ? r : start_some(&worker.other, SPARE_THREADS);
}

/* Ends those that have no work, and returns when they have. */
static void end_threads(void)
{
	gint64 deadline = g_get_monotonic_time() + HANG_PATIENCE_USEC;

	g_mutex_lock(&worker.lock);
	worker.ending = true;
	g_cond_broadcast(&worker.permanent.changed);
	g_cond_broadcast(&worker.other.changed);
	while (worker.threads > worker.unfinished_hanging &&
	       g_cond_wait_until(&worker.ended, &worker.lock, deadline))
		event_add(worker.try_again, &start_pause);
	g_mutex_unlock(&worker.lock);
}

static void end(void)
{
	end_threads();
	g_clear_pointer(&worker.event, event_free);
	g_clear_pointer(&worker.try_again, event_free);
	close(worker.eventfd);
	worker.eventfd = -1;
}

int worker_start(struct event_base *base)
{
	int r = -ENOMEM;

	worker.permanent.stay = PERMANENT_THREADS;
	worker.permanent.next = next_ordinary;
	worker.other.stay = SPARE_THREADS;
	worker.other.next = next_of_any_kind;
	worker.ending = worker.is_short = false;
	worker.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker.eventfd < 0)
		return -errno;
	worker.event = event_new(base, worker.eventfd, EV_READ | EV_PERSIST, on_finished, NULL);
	worker.try_again = evtimer_new(base, on_try_again, NULL);
	if (worker.event && worker.try_again && event_add(worker.event, NULL) == 0)
		r = start_permanent();
	if (r < 0)
		end();
	return r;
}

static void wait_a_little(void)
{
	struct pollfd finished = {.fd = worker.eventfd, .events = POLLIN};
	eventfd_t count;

	start_wanted();
	if (poll(&finished, 1, LOOK_MSEC) > 0)
		eventfd_read(worker.eventfd, &count);
	tell_finished();
}

static void warn_of_unfinished(void)
{
	unsigned int others = worker.unfinished - worker_closes;

	log_warning(
		NULL,
		"ends while threads are still at work in the kernel: %u close descriptors (a "
		"device is reset?), %u do something else (a talk with systemd, or DMA of an orphan)",
		worker_closes, others);
}

bool worker_drain(void)
{
	gint64 deadline = g_get_monotonic_time() + worker_patience_usec;

	while (worker.unfinished > 0 && g_get_monotonic_time() < deadline)
		wait_a_little();
	if (worker.unfinished > 0)
		warn_of_unfinished();
	return worker.unfinished == 0;
}

void worker_wait_for_hanging(void)
{
	gint64 deadline = g_get_monotonic_time() + HANG_PATIENCE_USEC;

	while (worker.unfinished_hanging > 0 && g_get_monotonic_time() < deadline)
		wait_a_little();
}

bool worker_stop(void)
{
	if (!worker_drain())
		return false;
	worker_wait_for_hanging();
	end();
	return true;
}
