/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-cprctl: what its verbs share. A verb parses its own options with ctl_options(), calls the
 * daemon with ctl_call(), prints with output.h, and returns an exit status.
 */
#ifndef CPRCTL_CPRCTL_H
#define CPRCTL_CPRCTL_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/connection.h"
#include "common/version.h"

#define CTL_INTERFACE "io.vfiocpr.Session."

enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILURE = 1,    /* what was asked for did not happen; stderr says why */
	CTL_USAGE = 2,	    /* the command line makes no sense */
	CTL_NO_SESSION = 3, /* there is no such session, or none that the caller may see */
	CTL_NO_DAEMON = 4,  /* no daemon answers at the socket */
};

struct ctl {
	gboolean json;
	gboolean legend; /* headers of tables */
	char *socket;
	int64_t uid;		       /* of --uid, -1: not given */
	GOptionContext *context;       /* whose --help is meant */
	struct connection *connection; /* NULL until the first call */
};

/* options.c */

/*
 * Parses the options of a verb (entries, ended by a NULL name; NULL: none) and the global ones out
 * of argv. What is left are argv[0], the verb, and its arguments: min to max of them. arguments
 * names them for the help ("NAME", or ""). CTL_OK, or CTL_USAGE with a sentence on stderr.
 */
int ctl_options(struct ctl *ctl, const GOptionEntry *entries, const char *arguments,
		const char *summary, int min, int max, int *argc, char ***argv);

/* The parser of such a command line, usage being what follows "vfio-cprctl [OPTION...]". */
GOptionContext *ctl_options_new(struct ctl *ctl, const GOptionEntry *entries, const char *usage,
				const char *summary);

/* The option --uid of several verbs, for entries: a user's number or name, into ctl->uid. */
#define CTL_OPTION_UID                                                       \
	{                                                                    \
		"uid", 'u', 0, G_OPTION_ARG_CALLBACK, (gpointer)ctl_set_uid, \
			"The session's owner, by name or number", "USER"     \
	}

gboolean ctl_set_uid(const char *name, const char *value, gpointer data, GError **error);

/* call.c: the daemon */

#define CTL_ROOM_MSEC 10000 /* how long it waits where others wait to be let in */

/* Connects if need be. -errno, with a sentence on stderr unless quiet. */
int ctl_connect(struct ctl *ctl, bool quiet);

/* The exit status where no answer came for that -errno: no daemon, or something in the way. */
int ctl_status_of(int r);

/*
 * Calls a method of io.vfiocpr.Session and waits at most timeout_msec. parameters is consumed.
 * CTL_OK, or the exit status of the failure, with a sentence on stderr that begins with what
 * ("cannot list the sessions").
 */
int ctl_call(struct ctl *ctl, const char *method, json_t *parameters, int timeout_msec,
	     const char *what, json_t **ret_answer);

#define CTL_TIMEOUT_MSEC 30000

/*
 * The same for a method that answers some of what there is at a time: all of it, the arrays of the
 * answers joined, and the rest as it is in the first. It waits CTL_TIMEOUT_MSEC for each.
 */
int ctl_call_all(struct ctl *ctl, const char *method, json_t *parameters, const char *what,
		 json_t **ret_answer);

/* That on a connection there is, the method with its interface: 0, or -errno of connection_call(). */
int ctl_ask_all(struct ctl *ctl, const char *method, json_t *parameters, json_t **ret_answer,
		struct call_error *ret_error);

/* Says on stderr that a call failed, and why, by what connection.h told. The exit status of it. */
int ctl_call_failed(const struct ctl *ctl, const char *what, int r, const struct call_error *error);

/* find.c */

/*
 * The parameters {name, uid} of the one session that text means: of that name or, if there is none
 * and text is a PCI address, that holds that device; and of that owner, if ctl->uid is given. CTL_OK,
 * or an exit status with a sentence on stderr if there is none or several.
 */
int ctl_find_session(struct ctl *ctl, const char *text, json_t **ret_parameters);

/* The verbs */

int list_run(struct ctl *ctl, int argc, char **argv);
int show_run(struct ctl *ctl, int argc, char **argv);
int monitor_run(struct ctl *ctl, int argc, char **argv);
int release_run(struct ctl *ctl, int argc, char **argv);
int check_run(struct ctl *ctl, int argc, char **argv);

#endif
