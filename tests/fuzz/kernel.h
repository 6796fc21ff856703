/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A kernel for one process: daemon/kernel.h, and what else the daemon asks it of peers, descriptors
 * and time. It has VFIO and iommufd, which are memfds that look like them.
 */
#ifndef FUZZ_KERNEL_H
#define FUZZ_KERNEL_H

#include <stdbool.h>
#include <sys/types.h>

/* Once. The daemon's listening socket has to be the descriptor given. */
void kernel_init(void);

/* No call fails, and no time has passed. */
void kernel_begin(void);
bool kernel_has_broken(void);

/* The next socket that is accepted, with who is at its other end; life: in the place of its pidfd. */
void kernel_offer(int socket, pid_t pid, uid_t uid, int life);

/* Takes back what was offered, if it was not accepted. */
void kernel_take_back(void);

void kernel_pass(unsigned int seconds);

/* A descriptor of the kind that the letter is for, see world_descriptors(). */
int kernel_descriptor(char letter);

#endif
