/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a host, and its devices, can be handed over: what is asked, and what is made of it.
 *
 * Every function appends findings and prints nothing. Those that look into /sys, /proc and /dev
 * take a root, a directory put before these paths ("" for the host itself), so that a test can
 * bring its own. What only an ioctl can tell is kept apart from its judgement for the same reason.
 */
#ifndef CPRCTL_HOSTCHECK_H
#define CPRCTL_HOSTCHECK_H

#include <glib.h>
#include <stdbool.h>

/* CHECK_UNKNOWN: it could not be looked into, which says nothing about the host, good or bad. */
enum check_status { CHECK_OK, CHECK_UNKNOWN, CHECK_WARNING, CHECK_BLOCKER };

/* Backends, as a set. */
#define BACKEND_TYPE1	(1U << 0)
#define BACKEND_IOMMUFD (1U << 1)
#define BACKEND_ALL	(BACKEND_TYPE1 | BACKEND_IOMMUFD)

struct finding {
	const char *check; /* a stable name */
	char *subject;	   /* what was looked at: a node, a device, ... */
	enum check_status status;
	char *detail;	     /* a sentence: what there is, and why it matters */
	char *remedy;	     /* what to do, or NULL */
	unsigned int blocks; /* the backends that it rules out or, CHECK_UNKNOWN, leaves in doubt */
};

typedef GPtrArray Findings; /* of struct finding */

Findings *findings_new(void);

/* Appends one. remedy: NULL if there is nothing to do. blocks: 0 for CHECK_OK, CHECK_WARNING. */
void findings_add(Findings *findings, const char *check, const char *subject,
		  enum check_status status, unsigned int blocks, const char *remedy,
		  const char *format, ...) G_GNUC_PRINTF(7, 8);

/* What is known of the backends, as two sets; in neither: those that do not work. */
struct verdict {
	unsigned int good;  /* all that was asked is as it must be */
	unsigned int doubt; /* nothing rules it out, but something could not be looked into */
};

/*
 * Weighs the findings from index first on, after what was known before them. If a backend is left,
 * good or in doubt, the blockers of the others become warnings: one is enough.
 */
struct verdict findings_settle(Findings *findings, size_t first, struct verdict before);

/* hostprobe.c: questions to this host's kernel that only an ioctl answers */

struct type1_facts {
	int error;	 /* errno of opening the node, or 0 */
	bool is_vfio;	 /* it answers VFIO_GET_API_VERSION */
	bool is_iommufd; /* it is iommufd in disguise (CONFIG_IOMMUFD_VFIO_CONTAINER) */
	bool type1v2, unmap_all;
};

struct iommufd_facts {
	int error;	    /* errno of opening the node, or 0 */
	int change_process; /* errno of IOMMU_IOAS_CHANGE_PROCESS on a new descriptor, or 0 */
};

struct limits {
	guint64 memlock, nofile; /* soft RLIMIT_MEMLOCK; hard RLIMIT_NOFILE */
};

struct process_facts {
	struct limits limits;
	bool peer_pidfd;	/* SO_PEERPIDFD */
	bool dupfd_query, kcmp; /* ways to tell whether two descriptors are one open file */
};

#define LIMIT_INFINITY G_MAXUINT64

void probe_type1(const char *root, struct type1_facts *ret_facts);
void probe_iommufd(const char *root, struct iommufd_facts *ret_facts);
void probe_process(struct process_facts *ret_facts);

/* hostcheck.c: the host */

void check_kernel(Findings *findings, const char *release, const char *machine);
void check_iommu(Findings *findings, const char *root);
void check_driver(Findings *findings, const char *root);
void check_type1(Findings *findings, const struct type1_facts *facts);
void check_iommufd(Findings *findings, const char *root, const struct iommufd_facts *facts);
void check_process(Findings *findings, const struct process_facts *facts);

/* limitcheck.c: for whose, a unit or process; NULL: for the shell that this was started from. */
void check_limits(Findings *findings, const struct limits *limits, const char *whose);

/* devicecheck.c: devices */

struct check_scope; /* access.h */

/* Looks at one PCI device ("0000:3b:00.0", also "3b:00.0") or mdev (its UUID). */
void check_device(Findings *findings, const struct check_scope *scope, const char *name);

/*
 * The PCI devices bound to a VFIO driver, sorted: strings to be freed with the array. error is set to
 * the first -errno of what could not be looked at.
 */
GPtrArray *devices_of_vfio(const char *root, int *error);

/* sysfs.c: reading below a root */

/* error (may be NULL) is set to the first -errno of what is there but cannot be looked at. */
bool sysfs_exists(const char *path, int *error);
/* The content without its end of line, or NULL; to be freed. */
char *sysfs_read(const char *path, int *error);
/* The last part of what a link points to, or NULL; to be freed. */
char *sysfs_link(const char *path, int *error);
/* The names in a directory, sorted; empty if there is none. */
GPtrArray *sysfs_list(const char *path, int *error);

#endif
