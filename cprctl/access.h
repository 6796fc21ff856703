/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For whom a host is judged, and whether they may open what a VMM has to open. */
#ifndef CPRCTL_ACCESS_H
#define CPRCTL_ACCESS_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "cprctl/hostcheck.h"

struct unit_facts; /* unitcheck.h */

struct credentials {
	char *name; /* as the operator wrote it */
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* all of them */
	size_t n_groups;
};

/* For whom and where check looks. */
struct check_scope {
	const char *root;		/* see hostcheck.h */
	const struct credentials *user; /* NULL: whoever calls */
	const struct unit_facts *unit;	/* NULL: none was named */
	const json_t *sessions;		/* the daemon's, see holder.h; NULL: none answers */
	bool are_given;			/* the operator has named the devices */
};

/*
 * user: a name or number. group (NULL or "": the user's own) takes the place of its group, and more
 * (NULL-terminated, or NULL) are added, as a unit's Group= and SupplementaryGroups= do. -ENOENT if
 * one of them does not exist; *ret_missing, which is one of the words given, says which.
 */
int credentials_find(const char *user, const char *group, char *const *more,
		     struct credentials **ret_credentials, const char **ret_missing);
void credentials_free(struct credentials *credentials); /* NULL: nothing */
void credentials_cleanup(struct credentials **credentials);
#define auto_credentials __attribute__((cleanup(credentials_cleanup))) struct credentials

/*
 * What access(2) tells who (NULL: the caller) of path; mode as there. Nothing is opened. 0, or
 * -errno; -ENOTSUP: who is somebody else, for whom only root can ask.
 */
int access_ask(const struct credentials *who, const char *path, int mode);

struct node {
	const char *check;   /* the finding's name */
	const char *subject; /* and subject */
	const char *path;    /* "/dev/vfio/12" */
	const char *devices; /* its name in /proc/devices ("vfio"), NULL: it is the socket */
	unsigned int backend;
};

/*
 * Adds whether the VMM's user and its unit let it open a node. For the caller's own sake only what
 * is amiss; nothing for a node that is not there.
 */
void check_node(Findings *findings, const struct check_scope *scope, const struct node *node);

/* The nodes that every VMM opens, and the daemon's socket, for a user or unit that was named. */
void check_access(Findings *findings, const struct check_scope *scope, const char *socket);

#endif
