/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For tests of vfio-cprctl check: a host that this machine is not, as the few files of sysfs and
 * /dev that matter, below a directory of its own; and the findings that it leads to.
 */
#ifndef TESTS_UNIT_HOSTROOT_H
#define TESTS_UNIT_HOSTROOT_H

#include <check.h>
#include <stdbool.h>

#include "cprctl/hostcheck.h"

#define BDF   "0000:3b:00.0"
#define OTHER "0000:3b:00.1"
#define UUID  "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

/* Of the running test: made before it, removed after it. */
extern char *root;
extern Findings *findings;

void make_dir(const char *path);
void make_file(const char *path, const char *content);
void make_link(const char *path, const char *target);
/* A PCI device. driver, vfio: NULL for none. cdev: whether vfio has a cdev and its node. */
void make_device(const char *bdf, const char *driver, const char *group, const char *vfio,
		 bool cdev);
void remove_node(const char *path);

/*
 * Leaves a directory to its owner alone and, where the test runs as root, whom no mode stops, goes
 * on as nobody until it calls leave_nobody().
 */
void hide(const char *path);
void leave_nobody(void);

/* The first finding of that name; the test fails if there is none. */
const struct finding *find(const char *check);
bool has(const char *check);
/* It has that status and weight and, unless all is well, a remedy. */
void expect(const char *check, enum check_status status, unsigned int blocks);

/* Around each test: a root of its own, and no findings. */
void host_make(void);
void host_remove(void);

#endif
