/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Logging: one sentence and, in the journal, fields to select by (VFIO_CPR_SESSION=,
 * VFIO_CPR_UID=). On a terminal or a plain file: a line, "vfio-cprd: warning: the sentence".
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <glib.h>
#include <stdbool.h>

#include "daemon/ratelimit.h"

struct session;

/* Decides where messages go, GLib's and libevent's included. To be called before there is one. */
void log_init(void);

/*
 * From log_start() on a message never makes its thread wait: if nobody takes the log, messages are
 * lost, and later the log tells how many. -EAGAIN: there is no thread to be had for that. log_stop()
 * waits for a moment until all is written.
 */
int log_start(void);
void log_stop(void);

/* For the daemon as a whole: session is NULL. */
void log_message(GLogLevelFlags level, const struct session *session, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

#define log_error(...)	 log_message(G_LOG_LEVEL_CRITICAL, __VA_ARGS__)
#define log_warning(...) log_message(G_LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_message(G_LOG_LEVEL_MESSAGE, __VA_ARGS__)
#define log_debug(...)	 log_message(G_LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Whether messages at debug level go anywhere, for those that cost something to make. */
bool log_is_debugging(void);

/*
 * Whether a line that the user caused may be logged; if not all might before, says so first. Every
 * line that a peer can cause again and again is asked for, but those of a session's life (each
 * costs a session) and those at debug level.
 */
bool log_may(uid_t uid);

#define log_limited(uid, ...)                     \
	do {                                      \
		if (log_may(uid))                 \
			log_message(__VA_ARGS__); \
	} while (0)

#endif
