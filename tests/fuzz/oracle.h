/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must be true of a daemon, whatever its peers do; where it is not, the fuzzer stops. */
#ifndef FUZZ_ORACLE_H
#define FUZZ_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct server;

/* A daemon has started: what is known of the holders of another one is forgotten. */
void oracle_begin(void);

/* After each turn: no session has a new holder while the one before lives. */
void oracle_look(struct server *server);

/* An answer is JSON, with parameters. */
void oracle_answer(const char *text, size_t size);

/*
 * What there is before a restart is there after it: each session with a journal, with all that it
 * holds, and held by the process that did if that lives.
 */
void oracle_remember(struct server *server);
void oracle_compare(struct server *server);

/* Nothing counts for the user any more. */
void oracle_account(uid_t uid);

#endif
