/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may hang is closed in threads, and counted: daemon/unwanted.h. */
#include "daemon/unwanted.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fdlist.h"
#include "daemon/account.h"
#include "daemon/worker.h"

/* A user who hangs more keeps descriptors of the daemon, but no threads that others need. */
#define THREADS_PER_UID 256

static void on_closed(void *data)
{
	struct account *account = data;
	struct fdlist *next = g_queue_pop_head(&account->unclosed);

	if (next) {
		worker_close_or_hang(next->fds, next->n, on_closed, account);
		g_free(next->fds);
		g_free(next);
	}
	account->closing--;
	account_put(account);
}

void unwanted_close(struct account *account, const int *fds, size_t n)
{
	account->references++;
	account->closing++;
	if (account->closing > THREADS_PER_UID) {
		struct fdlist *list = g_new0(struct fdlist, 1);

		fdlist_append(list, fds, n);
		g_queue_push_tail(&account->unclosed, list);
	} else {
		worker_close_or_hang(fds, n, on_closed, account);
	}
}

void unwanted_close_socket(struct account *account, int socket)
{
	int unread = 0;

	shutdown(socket, SHUT_RDWR); /* now nothing more can come, and the peer sees the end */
	if (ioctl(socket, SIOCINQ, &unread) < 0 || unread > 0)
		unwanted_close(account, &socket, 1);
	else
		close(socket);
}
