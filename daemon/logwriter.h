/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread that writes the log. Whoever takes the log (a journald that stands still, a pipe that
 * nobody reads) can keep it waiting, and nobody else: what waits is bounded, and what is beyond
 * that is lost and counted. How many were lost is told where they are missing.
 */
#ifndef DAEMON_LOGWRITER_H
#define DAEMON_LOGWRITER_H

#include <glib.h>
#include <stdbool.h>

/* Starts it. write() is called in it, may block, and tells whether the message is written. */
int logwriter_start(bool (*write)(GLogLevelFlags level, const GLogField *fields, gsize n));

/*
 * Hands over a message of any thread's; it is copied. false: there is no such thread, before the
 * start and after the end.
 */
bool logwriter_put(GLogLevelFlags level, const GLogField *fields, gsize n);

/* Waits until all is written, but no longer than that. */
void logwriter_flush(gint64 patience_usec);

/* Does so and ends the thread; or leaves it behind to the end of the process, if it is held up. */
void logwriter_stop(gint64 patience_usec);

#endif
