/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An array of file descriptors that owns them: what is not taken out is closed with the list. It
 * is laid out as SCM_RIGHTS wants it, so a run of it goes into a message without a loop.
 */
#ifndef COMMON_FDLIST_H
#define COMMON_FDLIST_H

#include <stddef.h>

struct fdlist {
	int *fds; /* -1: taken */
	size_t n;
	/*
	 * Closes n descriptors in place of close(), or NULL. The daemon sets it: the last close of a
	 * device or of much memory takes long, and any peer can send one. owner is passed on.
	 */
	void (*close_all)(const int *fds, size_t n, void *owner);
	void *owner;
};

#define FDLIST_INIT \
	{           \
		0   \
	}

/* Appends; the list owns fds now. */
void fdlist_append(struct fdlist *list, const int *fds, size_t n);

/* Moves the descriptor at index out of the list: the caller owns it. -1 if there is none. */
int fdlist_take(struct fdlist *list, size_t index);

/* Moves everything from one list to the end of another. */
void fdlist_move(struct fdlist *to, struct fdlist *from);

/* Closes what is left; the list is empty and can be used again. */
void fdlist_clear(struct fdlist *list);

#define auto_fdlist __attribute__((cleanup(fdlist_clear))) struct fdlist

#endif
