/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may hang is closed in threads, and counted: daemon/unwanted.h. */
#include "daemon/unwanted.h"

#include <glib.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/fdlist.h"
#include "daemon/account.h"
#include "daemon/errand.h"
#include "daemon/kernel.h"
#include "daemon/worker.h"

#define CLOSING_PATIENTLY 256 /* messages of a user, before its closes are hurried */
#define HURRY_NSEC	  200000

struct closing {
	struct account *account;
	struct fdlist fds;
};

static void close_in_thread(void *data)
{
	struct closing *closing = data;

	for (size_t i = 0; i < closing->fds.n; i++)
		kernel->close(closing->fds.fds[i]);
	closing->fds.n = 0;
}

static void on_closed(void *data)
{
	struct closing *closing = data;

	closing->account->closing--;
	account_put(closing->account);
	fdlist_clear(&closing->fds);
	g_free(closing);
}

static struct closing *closing_new(struct account *account, const int *fds, size_t n)
{
	struct closing *closing = g_new0(struct closing, 1);

	closing->account = account;
	account->references++;
	fdlist_append(&closing->fds, fds, n);
	account->closing++;
	return closing;
}

void unwanted_close(struct account *account, const int *fds, size_t n)
{
	errand_run(account, close_in_thread, on_closed, closing_new(account, fds, n));
}

/* In a hurry */

static struct {
	GQueue waiting; /* of struct closing */
	GQueue now;	/* the thread's, while it runs */
	bool runs;
} hurry;

static void do_nothing(int number)
{
	(void)number;
}

/* Threads begin with all signals blocked, and may do something else after this. */
static void set_signal(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	pthread_sigmask(how, &set, NULL);
}

/*
 * A signal ends what waits in a close, if it can be ended: that of a socket that lingers can
 * (sk_stream_wait_close(), net/core/stream.c). One that comes before the close begins is of no use,
 * so it comes again and again.
 */
static bool start_signals(timer_t *ret_timer)
{
	const struct sigaction action = {.sa_handler = do_nothing};
	const struct itimerspec often = {
		.it_interval.tv_nsec = HURRY_NSEC,
		.it_value.tv_nsec = HURRY_NSEC,
	};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};

	event._sigev_un._tid = gettid();
	sigaction(SIGURG, &action, NULL);
	set_signal(SIG_UNBLOCK);
	return timer_create(CLOCK_MONOTONIC, &event, ret_timer) == 0 &&
	       timer_settime(*ret_timer, 0, &often, NULL) == 0;
}

static void hurry_in_thread(void *unused)
{
	timer_t timer;
	bool has_timer = start_signals(&timer);

	(void)unused;
	for (GList *item = hurry.now.head; item; item = item->next)
		close_in_thread(item->data);
	if (has_timer)
		timer_delete(timer);
	set_signal(SIG_BLOCK);
}

static void hurry_on(void);

static void on_hurried(void *unused)
{
	(void)unused;
	hurry.runs = false;
	g_queue_clear_full(&hurry.now, on_closed);
	if (hurry.waiting.length > 0)
		hurry_on();
}

static void hurry_on(void)
{
	hurry.runs = true;
	hurry.now = hurry.waiting;
	g_queue_init(&hurry.waiting);
	worker_run_or_hang(hurry_in_thread, on_hurried, NULL);
}

/* A socket with messages in it */

/*
 * Whether there are descriptors in what is unread, for that close to close. A look without room for
 * control messages takes none, and tells (MSG_CTRUNC) whether there are some; it goes on to the first.
 */
static bool carries_descriptors(int socket, size_t unread)
{
	g_autofree char *bytes = g_malloc(unread);
	struct iovec iov = {bytes, unread};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n = recvmsg(socket, &header, MSG_PEEK | MSG_DONTWAIT);

	return n < (ssize_t)unread || (header.msg_flags & MSG_CTRUNC);
}

/*
 * A first part of what is unread will do: who has left more than that, or descriptors, is no storm of
 * connections, but may have left calls to be done.
 */
bool unwanted_close_if_given_up(int socket)
{
	char bytes[256];
	struct iovec iov = {bytes, sizeof(bytes)};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	struct pollfd hangup = {.fd = socket};
	ssize_t n = recvmsg(socket, &header, MSG_PEEK | MSG_DONTWAIT);
	int unread = 0;

	if (n < 0 || (header.msg_flags & MSG_CTRUNC) || memchr(bytes, '\0', n))
		return false;
	if (n > 0 && (poll(&hangup, 1, 0) <= 0 || !(hangup.revents & POLLHUP) ||
		      ioctl(socket, SIOCINQ, &unread) < 0 || unread > n))
		return false;
	close(socket);
	return true;
}

/*
 * The limit on connections does not bound these: they are refused because of it. Who has many of them
 * that hang has one more thread for the rest, which waits for none.
 */
static void close_late(struct account *account, int socket)
{
	struct closing *closing;

	if (account->closing < CLOSING_PATIENTLY) {
		unwanted_close(account, &socket, 1);
		return;
	}
	closing = closing_new(account, &socket, 1);
	g_queue_push_tail(&hurry.waiting, closing);
	if (!hurry.runs)
		hurry_on();
}

void unwanted_close_socket(struct account *account, int socket)
{
	int unread = 0;

	shutdown(socket, SHUT_RDWR); /* now nothing more can come, and the peer sees the end */
	if (ioctl(socket, SIOCINQ, &unread) < 0 ||
	    (unread > 0 && carries_descriptors(socket, unread)))
		close_late(account, socket);
	else
		close(socket);
}
