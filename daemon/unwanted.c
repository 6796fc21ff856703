/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may hang is closed in threads, and counted: daemon/unwanted.h. */
#include "daemon/unwanted.h"

#include <glib.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fdlist.h"
#include "daemon/account.h"
#include "daemon/errand.h"
#include "daemon/kernel.h"

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
	fdlist_clear(&closing->fds);
	g_free(closing);
}

void unwanted_close(struct account *account, const int *fds, size_t n)
{
	struct closing *closing = g_new0(struct closing, 1);

	closing->account = account;
	fdlist_append(&closing->fds, fds, n);
	account->closing++;
	errand_run(account, close_in_thread, on_closed, closing);
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
