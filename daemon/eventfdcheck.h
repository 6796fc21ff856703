/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A question that only an eventfd answers, in one call that waits for nobody. A VM has thousands of
 * them, and the link of each in /proc takes the kernel several times as long.
 */
#ifndef DAEMON_EVENTFDCHECK_H
#define DAEMON_EVENTFDCHECK_H

/*
 * Whether it is an open eventfd: 1 or 0; or -errno where this cannot be asked (no CONFIG_AIO, a
 * filter of system calls, or others have all that fs.aio-max-nr allows).
 */
int eventfdcheck(int fd);

/* Gets ready, which the first question does otherwise; and is done. */
void eventfdcheck_begin(void);
void eventfdcheck_end(void);

#endif
