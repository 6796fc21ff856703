/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The world around the daemon, made up, for fuzzers: processes that live and die, a systemd with its
 * fd store, a kernel that refuses when told to, threads that run in the loop. The daemon's own code
 * is all there, from the peer's socket to the journal.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WORLD_PROCESSES	  4 /* of root, uid 1000 twice, and uid 1001 */
#define WORLD_CONNECTIONS 8

/* Once, before the first input. */
void world_init(void);

/* A daemon with nothing held; its end, with all that it holds; that nothing of it is left. */
void world_begin(void);
void world_end(void);

/* The daemon is gone at once, and the next one gets from systemd what that has. */
void world_restart(void);

/* Lets the daemon do what there is to do. */
void world_turn(void);

/* Lets time pass. */
void world_pass(unsigned int seconds);

/* A process connects; its number, as all below, is taken modulo what there is. */
void world_connect(unsigned int process);
void world_hang_up(unsigned int connection);
void world_kill(unsigned int process);

/* Sends text and a NUL, with a descriptor for each letter of kinds. */
void world_send(unsigned int connection, const char *kinds, const char *text, size_t size);

/* Takes what the daemon has answered. */
void world_read(unsigned int connection);

/* What systemd does with the next entry of its store, and the kernel at the next call. */
void world_break_store(unsigned int how);
void world_break_kernel(unsigned int after);

/*
 * Another journal for the next daemon: begins one in the store, as daemons since 0.3.0 have them, or
 * with its sending end there, too; appends a record, with descriptors.
 */
void world_journal(const char *name, size_t length, bool has_twin);
void world_record(const char *kinds, const char *text, size_t size);

/*
 * Makes descriptors, one for each letter; how many. c container, g group, d device, D device's cdev,
 * i iommufd, k KVM, m memory, s state, t table, o O_PATH, p pipe, u socket, S the sending end of the
 * journal that is being made, 0 to 3 the pidfd of a process; all others eventfd.
 */
size_t world_descriptors(const char *kinds, int *ret_fds, size_t max);

/* Whether a process with that number lives. */
bool world_lives(pid_t pid);

#endif
