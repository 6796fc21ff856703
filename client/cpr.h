/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inside of libvfio-cpr: the handle, what its session holds, and the wrappers that the VMM
 * sees. Who knows what:
 *
 *	cpr		the sentence of a failure, and whether a call may go on
 *	connection	one Varlink call and its answer
 *	link		calls that survive the daemon's death: reconnect, resume, repeat
 *	inventory	the objects of the session, as the daemon has them
 *	slots		where in a space's table a mapping is
 *	space, device, memory, dma, irq, state, ...	what the VMM asks for, on top of these
 *	session		the handle: open, attach, commit, release
 */
#ifndef CLIENT_CPR_H
#define CLIENT_CPR_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/connection.h"
#include "common/table.h"

#pragma GCC visibility push(default)
#include "vfio-cpr.h"
#pragma GCC visibility pop

#define SESSION_METHOD(name) "io.vfiocpr.Session." name

struct object; /* client/inventory.h */

struct region_map {
	void *addr;
	size_t size;
};

#define DEVICE_REGIONS 9 /* VFIO_PCI_NUM_REGIONS */

struct vfio_cpr_device {
	struct vfio_cpr *cpr;
	struct vfio_cpr_space *space;
	struct object *object;
	struct region_map regions[DEVICE_REGIONS]; /* for dma_map_bar; mapped when first needed */
};

struct vfio_cpr_memory {
	struct vfio_cpr *cpr;
	struct object *object;
	uint64_t size;
	void *addr;
	bool addr_is_ours; /* made by mmap here */
};

struct vfio_cpr_space {
	struct vfio_cpr *cpr;
	enum vfio_cpr_backend backend;
	char *name;
	struct object *context;	     /* the container or iommufd */
	struct object *table_object; /* that holds the table */
	struct object *group;	     /* a type1 group in it, once one was looked for and found */
	struct table table;
	GHashTable *slots;  /* iova -> slot + 1 */
	GArray *free_slots; /* of uint32_t, below table_used() */
	uint8_t *pending;   /* by slot: to be restored yet. NULL: nothing is */
	uint32_t n_pending; /* its length */
};

struct monitor_link {
	int epoll; /* -1: nobody asked */
	int timer; /* retries while there is no connection */
	struct connection *monitor;
	bool answered;	/* the monitor is known to be served */
	bool told_lost; /* DISCONNECTED was reported, CONNECTED not yet */
	bool released;	/* to be reported */
};

struct vfio_cpr {
	char *path;
	char *session;		       /* NULL: not attached */
	struct connection *connection; /* NULL: none at the moment */
	/* session.c's: makes a new connection the session's, as it was before the last was lost */
	int (*resume)(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
		      struct call_error *ret_error);
	bool is_protected, is_released;
	enum vfio_cpr_start start;
	bool doubt; /* a Store went unanswered: the daemon may hold what the inventory lacks */
	bool process_changed; /* IOMMU_IOAS_CHANGE_PROCESS is done */
	uint32_t timeout_msec;
	uint64_t page_size;
	volatile uint8_t *own_process; /* a page that fork() wipes: 1 here, 0 in a child */
	GString *error;

	GPtrArray *objects;  /* of struct object, in the order of storing; owns them */
	GHashTable *by_name; /* struct object by kind and name */
	GHashTable *by_id;
	uint32_t last_id;

	GHashTable *spaces, *devices, *memories; /* wrappers by name; they own them */
	struct monitor_link events;
};

/* Leaves the sentence of a failure, and returns its errno. */
int cpr_fail(struct vfio_cpr *cpr, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4), cold));

/* Whether a call may go on: the right process, and attached. 0, -ECHILD or -EINVAL. */
int cpr_check_slow(struct vfio_cpr *cpr);
static inline int cpr_check(struct vfio_cpr *cpr)
{
	if (G_LIKELY(*cpr->own_process && cpr->session && !cpr->is_released))
		return 0;
	return cpr_check_slow(cpr);
}

/* 0, or -EINVAL with a sentence; what: "memory", ... */
int cpr_check_name(struct vfio_cpr *cpr, const char *what, const char *name);

/*
 * link.c: the way to the daemon
 */

/*
 * A conversation that can be repeated from its start on a new connection. Returns 0 or -errno; no
 * name in ret_error on failure: no answer came.
 */
typedef int (*exchange_fn)(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			   void *userdata, struct call_error *ret_error);

/*
 * Has the conversation, and if the connection breaks once more on a new one. *ret_repeated (may be
 * NULL): it was repeated, so the first may have taken effect. name (may be NULL): of the error answer.
 */
int link_run(struct vfio_cpr *cpr, exchange_fn exchange, void *userdata, bool *ret_repeated,
	     char ret_name[64]);

/* One call of io.vfiocpr.Session without descriptors. parameters is consumed. */
int link_call(struct vfio_cpr *cpr, const char *method, json_t *parameters, json_t **ret_parameters,
	      bool *ret_repeated, char ret_name[64]);

/* Makes the connection (and resumes the session) if there is none; at most timeout_msec. */
int link_connect(struct vfio_cpr *cpr, uint32_t timeout_msec);

/* Forgets a connection that the daemon has closed meanwhile. */
void link_check(struct vfio_cpr *cpr);

/* How long a daemon that is there may take to answer. */
int link_answer_timeout(const struct vfio_cpr *cpr);

/*
 * Wrappers, by object; made when first asked for
 */

int space_open(struct vfio_cpr *cpr, struct object *table, struct vfio_cpr_space **ret_space);
void space_free(struct vfio_cpr_space *space);

struct vfio_cpr_device *device_wrap(struct vfio_cpr_space *space, struct object *object);
void device_free(struct vfio_cpr_device *device);

/* The address of a mapped region (size bytes) of the device. -EOPNOTSUPP: it cannot be mapped. */
int device_region_map(struct vfio_cpr_device *device, uint32_t region, void **ret_addr,
		      uint64_t *ret_size);

int memory_wrap(struct vfio_cpr *cpr, struct object *object, struct vfio_cpr_memory **ret_memory);
void memory_free(struct vfio_cpr_memory *memory);

/* Opens spaces that the VMM has not asked for, so that commit can restore them. */
int spaces_open_all(struct vfio_cpr *cpr);

/*
 * event.c
 */

void event_init(struct vfio_cpr *cpr);
void event_clear(struct vfio_cpr *cpr);
void event_session_changed(struct vfio_cpr *cpr); /* attached or released */

#endif
