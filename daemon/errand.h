/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work on what a user's peers have sent or can reach: their files, their sockets. It may hang as
 * long as the user likes (a FUSE file, a lock, a socket that lingers), and a thread with it. So it is
 * done in the user's name: so many threads for each, and for all users but root, and the rest waits
 * for those.
 */
#ifndef DAEMON_ERRAND_H
#define DAEMON_ERRAND_H

#include <stdbool.h>

struct account;

/* Runs work(data) in a thread, then done(data) in the loop, if it ever comes to that. */
void errand_run(struct account *account, void (*work)(void *data), void (*done)(void *data),
		void *data);

/*
 * The same for the settling of an orphan, which a claim waits for: it waits for no thread that closes or
 * looks at something, whosever that is.
 */
void errand_run_settling(struct account *account, void (*work)(void *data),
			 void (*done)(void *data), void *data);

/*
 * The same for a look into /proc. If such looks hang they all do, whosever they are: so they have few
 * threads, and nothing else waits for those. false: too many of the user's wait already, and this one
 * is not done.
 */
bool errand_run_look_up(struct account *account, void (*work)(void *data), void (*done)(void *data),
			void *data);

/*
 * The same for work that ends by itself, as it asks for no file and no lock: it waits for none of those
 * that hang, whosever they are.
 */
void errand_run_short(struct account *account, void (*work)(void *data), void (*done)(void *data),
		      void *data);

#endif
