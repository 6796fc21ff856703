/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the programs of the benchmark share: a clock, the line that reports one measurement, the
 * sessions that are measured, and the floor: a process that hands out descriptors and does nothing
 * else. They link the library's own objects, so that parts of it can be timed alone.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/cpr.h"
#include "client/inventory.h"

/* Nanoseconds of CLOCK_MONOTONIC, which all processes share. */
uint64_t now_ns(void);

/* Prints one measurement: which row of the table, how many, of whom ("ours", "floor", ...). */
void report(const char *row, size_t n, const char *who, double value);
void report_usec(const char *row, size_t n, const char *who, uint64_t start_ns, uint64_t end_ns);

/* Ends the program with a sentence if r is negative; "what" failed. Returns r. */
int check(int r, const char *what);
int check_errno(int r, const char *what);
int check_cpr(int r, const struct vfio_cpr *cpr, const char *what);

void raise_nofile(void); /* to the hard limit */
void make_eventfds(int *fds, size_t n);
void close_all(const int *fds, size_t n);

/* Ours */

struct vfio_cpr *attach_new(const char *socket, const char *name);

/*
 * Fills objects with eventfds spread over four objects (four devices' vectors), and then for
 * "extras" more objects: memories of a page, the last two a table and a state.
 */
#define PARTS	   4
#define EXTRAS_MAX 32
size_t make_objects(struct object **objects, const int *fds, size_t n, size_t extras);

/* Forgets the descriptors of all objects, so that closing the handle leaves them open. */
void forget_fds(struct vfio_cpr *cpr);

/* Waits until no session of this name has a living holder. */
void wait_orphaned(const char *socket, const char *name);

/* The floor */

/* A process that holds fds and serves the one end of a socketpair; *ret_socket is the other. */
pid_t floor_start(const int *fds, size_t n, int *ret_socket);

/* A process that serves any number of connections to the abstract socket name. */
pid_t floor_listen(const char *name, const int *fds, size_t n);
int floor_connect(const char *name);

void floor_fetch(int socket, int *fds, size_t n);
void floor_store(int socket, const int *fds, size_t n);
void floor_drop(int socket); /* closes what it was given */
void floor_stop(pid_t pid);

#endif
