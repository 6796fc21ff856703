/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tests' VMM: a VMM on strings. It does what it is told on stdin, one command a line, by the
 * public header alone, and answers each with one line: "ok ..." or "error ERRNO sentence". The
 * tests drive it, kill it and start its successor.
 */
#ifndef TESTS_VMM_H
#define TESTS_VMM_H

#include <stdint.h>

#include "vfio-cpr.h"

/* Things by name, as the commands speak of them. A list that only grows. */
struct thing {
	struct thing *next;
	char *name;
	void *pointer;
	volatile uint8_t *bar0; /* of a device, mapped */
};

/* The thing of that name; NULL: an error was answered. */
struct thing *find(struct thing *things, const char *name);
void keep(struct thing **things, const char *name, void *pointer);

struct command {
	const char *name; /* NULL: the last */
	void (*run)(void);
	int min_words;
};

extern const struct command session_commands[], device_commands[];

extern struct vfio_cpr *cpr;
extern struct thing *spaces;
extern char *word[16]; /* of the command */
extern int words;

/* Word i as a number; 0 if it is not there. */
uint64_t number(int i);

/* "ok r" and the rest, or the library's sentence. */
void answer(int r, const char *rest);

#endif
