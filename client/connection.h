/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection to the daemon: a Varlink call, its answer, and the descriptors of both. Knows
 * nothing of sessions. Used by the library and by vfio-cprctl.
 */
#ifndef CLIENT_CONNECTION_H
#define CLIENT_CONNECTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fdlist.h"

struct connection;

/* What the daemon or the connection said of a failure. Owned by the caller; free(message). */
struct call_error {
	char *message;
	char name[64]; /* the last part of the Varlink error's name, "" if it was no such answer */
};

void call_error_clear(struct call_error *error);
#define auto_call_error __attribute__((cleanup(call_error_clear))) struct call_error

/*
 * Connects to the unix socket at path. As many connections wait there for the daemon as its backlog
 * has room for, so there may be none for a moment: it waits at most timeout_msec for that (-EAGAIN).
 * -errno of socket() or connect(), see refusal.h.
 */
int connection_open(const char *path, int timeout_msec, struct connection **ret_connection);
void connection_close(struct connection *connection);
int connection_fd(const struct connection *connection);

/*
 * Calls a method ("io.vfiocpr.Session.List") and waits at most timeout_msec (-1: for ever) for its
 * answer. parameters is consumed (NULL: none); fds stay the caller's. The answer's parameters are
 * the caller's (never NULL on success), its descriptors go to ret_fds (NULL: none are expected).
 *
 * An error answer becomes -errno by its name: Busy -EBUSY, NoSuchSession and NoSuchObject -ENOENT,
 * AlreadyExists -EEXIST, Refused -EINVAL, NotHolder -EACCES, BadState -EINVAL, QuotaExceeded
 * -EDQUOT, DescriptorsLost -EMFILE, ProtocolViolation and those of org.varlink.service -EPROTO,
 * KernelFailure -errno of its parameter; an errno parameter that is not 0 wins. PermissionDenied of
 * org.varlink.service -EACCES.
 * Without an answer: -ECONNRESET (the daemon closed), -ETIMEDOUT, -EPROTO, -errno of the socket.
 * After one of these four the connection is of no more use.
 */
int connection_call(struct connection *connection, const char *method, json_t *parameters,
		    const int *fds, size_t n_fds, int timeout_msec, json_t **ret_parameters,
		    struct fdlist *ret_fds, struct call_error *ret_error);

/* Sends a call with "more": true. Its answers come by connection_next(). */
int connection_call_more(struct connection *connection, const char *method, json_t *parameters);

/*
 * The next answer of a call with more. 1: one came, with its descriptors in ret_fds (NULL: none are
 * expected); *ret_continues (may be NULL): it is not the last. 0: none within timeout_msec (0: do
 * not wait). Errors as with connection_call(); -ENODATA: an empty answer says that none follow.
 */
int connection_next(struct connection *connection, int timeout_msec, json_t **ret_parameters,
		    struct fdlist *ret_fds, bool *ret_continues, struct call_error *ret_error);

#endif
