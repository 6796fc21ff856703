/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The unit that a VMM runs in: what systemd gives it, and what it keeps from it. */
#ifndef CPRCTL_UNITCHECK_H
#define CPRCTL_UNITCHECK_H

#include <glib.h>
#include <stdbool.h>

#include "cprctl/hostcheck.h"

struct unit_facts {
	char *id;	    /* its full name, "vm@web1.service" */
	char *load_state;   /* "loaded" if all is well */
	char *user, *group; /* "": root's */
	char **groups;	    /* supplementary */
	bool has_limits;    /* it is of a kind that has them */
	guint64 memlock;    /* soft RLIMIT_MEMLOCK */
	guint64 nofile;	    /* hard RLIMIT_NOFILE */
	char *device_policy;
	GPtrArray *device_allow; /* of char *: "char-vfio* rw" */
	bool private_devices;
	unsigned int main_pid; /* 0: it does not run */
};

void unit_facts_free(struct unit_facts *facts); /* NULL: nothing */
void unit_facts_cleanup(struct unit_facts **facts);
#define auto_unit_facts __attribute__((cleanup(unit_facts_cleanup))) struct unit_facts

/* Whether systemctl would take it as one unit's name. */
bool unit_name_is_valid(const char *name);

/* What "systemctl show" printed, as far as it concerns us. */
struct unit_facts *unit_parse(const char *text);

/* Asks systemd for a unit. NULL, and a sentence in *ret_failure (to be freed), if it cannot tell. */
struct unit_facts *unit_ask(const char *name, char **ret_failure);

/* The limits of the unit's main process, if it runs, in place of the unit's. */
bool unit_process_limits(const struct unit_facts *facts, const char *root, struct limits *ret);

/*
 * Why the unit's sandbox keeps it from opening a node, to be freed; NULL if it does not. devices is
 * the node's name in /proc/devices.
 */
char *unit_refuses(const struct unit_facts *facts, const char *root, const char *node,
		   const char *devices);

/* Judges a unit as far as no node is concerned: whether it is there, and its limits. */
void check_unit(Findings *findings, const char *root, const struct unit_facts *facts);

#endif
