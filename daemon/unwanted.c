/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What hangs is counted: daemon/unwanted.h. */
#include "daemon/unwanted.h"

#include <glib.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker.h"

static GHashTable *counts; /* by uid; made when first needed */

static void count(uid_t uid, int change)
{
	unsigned int n = unwanted_count(uid) + change;

	if (!counts)
		counts = g_hash_table_new(NULL, NULL);
	if (n > 0)
		g_hash_table_insert(counts, GUINT_TO_POINTER(uid), GUINT_TO_POINTER(n));
	else
		g_hash_table_remove(counts, GUINT_TO_POINTER(uid));
}

static void on_closed(void *uid)
{
	count(GPOINTER_TO_UINT(uid), -1);
}

void unwanted_close(uid_t uid, const int *fds, size_t n)
{
	count(uid, 1);
	worker_close_or_hang(fds, n, on_closed, GUINT_TO_POINTER(uid));
}

void unwanted_close_socket(uid_t uid, int socket)
{
	int unread = 0;

	shutdown(socket, SHUT_RD); /* now nothing more can come */
	if (ioctl(socket, SIOCINQ, &unread) < 0 || unread > 0)
		unwanted_close(uid, &socket, 1);
	else
		close(socket);
}

unsigned int unwanted_count(uid_t uid)
{
	return counts ? GPOINTER_TO_UINT(g_hash_table_lookup(counts, GUINT_TO_POINTER(uid))) : 0;
}
