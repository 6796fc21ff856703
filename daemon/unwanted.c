/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may hang is closed in threads, and counted: daemon/unwanted.h. */
#include "daemon/unwanted.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/account.h"
#include "daemon/worker.h"

static void on_closed(void *data)
{
	struct account *account = data;

	account->closing--;
	account_put(account);
}

void unwanted_close(struct account *account, const int *fds, size_t n)
{
	account->references++;
	account->closing++;
	worker_close_or_hang(fds, n, on_closed, account);
}

void unwanted_close_socket(struct account *account, int socket)
{
	int unread = 0;

	shutdown(socket, SHUT_RD); /* now nothing more can come */
	if (ioctl(socket, SIOCINQ, &unread) < 0 || unread > 0)
		unwanted_close(account, &socket, 1);
	else
		close(socket);
}
