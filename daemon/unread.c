/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers in flight, and sockets that outlive their connection: daemon/unread.h. */
#include "daemon/unread.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "daemon/errand.h"
#include "daemon/kernel.h"
#include "daemon/unwanted.h"

#define LOOK_PAUSE_USEC 1000 /* a look at all sockets is a call for each */
#define LOOK_SHARE	20   /* of the loop's time: one in so many */

static const struct timeval left_pause = {.tv_sec = 1};

static struct {
	GQueue all;	/* of struct unread that have some */
	GQueue left;	/* of struct unread, of connections that have ended */
	gint64 look_at; /* the next look at all, not before */
	struct event *timer;
} unreads;

void unread_init(struct unread *unread, struct account *account, int socket)
{
	*unread = (struct unread){.account = account, .socket = socket};
	unread->link.data = unread;
}

void unread_add(struct unread *unread, size_t n)
{
	if (unread->n == 0)
		g_queue_push_tail_link(&unreads.all, &unread->link);
	unread->n += n;
	unread->sent = g_get_monotonic_time();
	account_count_unread(unread->account, n);
}

static void forget(struct unread *unread)
{
	g_queue_unlink(&unreads.all, &unread->link);
	account_count_unread(unread->account, -(ssize_t)unread->n);
	unread->n = 0;
}

/*
 * SIOCOUTQ is not a count of bytes here: it is the memory of what was sent and not received
 * (unix_outq_len(), net/unix/af_unix.c), and 0 only when nothing is left, also of a peer that has gone.
 */
static void look(struct unread *unread)
{
	int queued;

	if (unread->n > 0 && ioctl(unread->socket, SIOCOUTQ, &queued) == 0 && queued == 0)
		forget(unread);
}

static void look_at_all(void)
{
	gint64 begin = g_get_monotonic_time(), end;

	if (begin < unreads.look_at)
		return;
	for (GList *item = unreads.all.head, *next; item; item = next) {
		next = item->next;
		look(item->data);
	}
	end = g_get_monotonic_time();
	unreads.look_at = end + LOOK_PAUSE_USEC + (end - begin) * LOOK_SHARE;
}

bool unread_allows(struct unread *unread, size_t n, enum flight purpose)
{
	look(unread);
	if (account_may_fly(unread->account, n, purpose))
		return true;
	look_at_all();
	return account_may_fly(unread->account, n, purpose);
}

/* What is left */

/*
 * What the peer sent last, and nobody will read. It may hold the peer's own end of the connection, and
 * then nobody else does, and it would never close. In a thread, as what is received without room for
 * it is closed by the kernel.
 */
struct drain {
	struct unread *left; /* NULL: it is closed */
	int socket;	     /* a copy */
};

static void drain_in_thread(void *data)
{
	const struct drain *drain = data;
	char bytes[4096];

	while (recv(drain->socket, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	kernel->close(drain->socket);
}

static void on_drained(void *data)
{
	struct drain *drain = data;

	if (drain->left)
		drain->left->drain = NULL;
	g_free(drain);
}

/* Nothing more can come, so this is done once. */
static void begin_drain(struct unread *left)
{
	int bytes = 0, copy;

	if (left->drain || ioctl(left->socket, SIOCINQ, &bytes) < 0 || bytes == 0)
		return;
	copy = fcntl(left->socket, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return; /* at the next look */
	left->drain = g_new(struct drain, 1);
	*left->drain = (struct drain){left, copy};
	errand_run(left->account, drain_in_thread, on_drained, left->drain);
}

static void close_left(struct unread *unread)
{
	if (unread->drain)
		unread->drain->left = NULL;
	if (unread->n > 0)
		forget(unread);
	unwanted_close_socket(unread->account, unread->socket);
	account_count_connections(unread->account, -1);
	account_put(unread->account);
	g_free(unread);
}

static void on_timer(evutil_socket_t fd, short events, void *unused)
{
	guint n = unreads.left.length;

	(void)fd;
	(void)events;
	(void)unused;
	while (n-- > 0) {
		struct unread *unread = g_queue_pop_head(&unreads.left);

		look(unread);
		if (unread->n == 0 && !unread->drain) {
			close_left(unread);
			continue;
		}
		begin_drain(unread);
		g_queue_push_tail(&unreads.left, unread);
	}
	if (unreads.left.length > 0)
		event_add(unreads.timer, &left_pause);
}

void unread_start(struct event_base *base)
{
	unreads.timer = evtimer_new(base, on_timer, NULL);
}

void unread_stop(void)
{
	struct unread *unread;

	while ((unread = g_queue_pop_head(&unreads.left)))
		close_left(unread);
	g_clear_pointer(&unreads.timer, event_free);
}

/* It still counts as a connection of its user's: else there would be no limit on them. */
static void leave(const struct unread *unread)
{
	struct unread *left = g_new(struct unread, 1);

	shutdown(unread->socket, SHUT_RDWR);
	unread_init(left, account_get(unread->account->uid), unread->socket);
	account_count_connections(left->account, 1);
	unread_add(left, unread->n);
	g_queue_push_tail(&unreads.left, left);
	if (!event_pending(unreads.timer, EV_TIMEOUT, NULL))
		event_add(unreads.timer, &left_pause);
}

void unread_close_socket(struct unread *unread)
{
	look(unread);
	if (unread->n > 0) {
		leave(unread);
		forget(unread);
	} else {
		unwanted_close_socket(unread->account, unread->socket);
	}
	unread->socket = -1;
}
