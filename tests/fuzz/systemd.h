/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A systemd for one process, with an fd store: what libsystemd would say and do. */
#ifndef FUZZ_SYSTEMD_H
#define FUZZ_SYSTEMD_H

#include <stdbool.h>
#include <stddef.h>

/* An empty store; its end, with all that is in it. */
void systemd_begin(void);
void systemd_end(void);

/* The daemon is gone: what is stored is given to the next one. */
void systemd_hand_over(void);

/* Whether it has dropped anything or kept the daemon waiting. */
bool systemd_has_broken(void);

/* world_journal(); and a descriptor of the sending end of the last one, or of nothing of use. */
void systemd_journal(const char *name, size_t length, bool has_twin);
int systemd_sending_end(void);

#endif
