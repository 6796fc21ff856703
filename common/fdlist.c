/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The owned array of descriptors: common/fdlist.h. */
#include "common/fdlist.h"

#include <glib.h>
#include <string.h>
#include <unistd.h>

void fdlist_append(struct fdlist *list, const int *fds, size_t n)
{
	if (n == 0)
		return;
	list->fds = g_renew(int, list->fds, list->n + n);
	memcpy(list->fds + list->n, fds, n * sizeof(*fds));
	list->n += n;
}

int fdlist_take(struct fdlist *list, size_t index)
{
	int fd;

	if (index >= list->n)
		return -1;
	fd = list->fds[index];
	list->fds[index] = -1;
	return fd;
}

void fdlist_move(struct fdlist *to, struct fdlist *from)
{
	if (to->n == 0) {
		g_free(to->fds);
		to->fds = from->fds;
		to->n = from->n;
	} else {
		fdlist_append(to, from->fds, from->n);
		g_free(from->fds);
	}
	from->fds = NULL;
	from->n = 0;
}

void fdlist_clear(struct fdlist *list)
{
	size_t left = 0;

	for (size_t i = 0; i < list->n; i++)
		if (list->fds[i] >= 0)
			list->fds[left++] = list->fds[i];
	if (left > 0 && list->close_all)
		list->close_all(list->fds, left, list->owner);
	else
		for (size_t i = 0; i < left; i++)
			close(list->fds[i]);
	g_clear_pointer(&list->fds, g_free);
	list->n = 0;
}
