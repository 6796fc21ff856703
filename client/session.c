/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handle and its session: open, attach, commit, release, close. Attach brings all that a
 * predecessor left into this process at once, so that nothing after it depends on the daemon.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/cpr.h"
#include "client/inventory.h"
#include "client/refusal.h"
#include "common/session-name.h"

#define DEFAULT_TIMEOUT_MSEC 10000

bool vfio_cpr_is_protected(const struct vfio_cpr *cpr)
{
	return cpr->is_protected;
}

void vfio_cpr_set_timeout(struct vfio_cpr *cpr, uint32_t msec)
{
	cpr->timeout_msec = msec;
}

/*
 * A variable that is set to nothing is one that is not set. In a program that has more rights than
 * who started it (setuid, file capabilities) it is passed over: who listens there is given devices.
 */
static const char *default_path(void)
{
	const char *path = secure_getenv("VFIO_CPR_SOCKET");

	return path && *path ? path : VFIO_CPR_SOCKET;
}

/* Makes this connection the session's: attaches again, and stores what the daemon has lost. */
static int session_resume(struct vfio_cpr *cpr, struct connection *connection, int timeout_msec,
			  struct call_error *ret_error)
{
	json_t *answer = NULL;
	const char *start;
	int r;

	r = connection_call(connection, SESSION_METHOD("Attach"),
			    json_pack("{s:s}", "name", cpr->session), NULL, 0, timeout_msec,
			    &answer, NULL, ret_error);
	if (r < 0)
		return r;
	start = json_string_value(json_object_get(answer, "start"));
	if (!start)
		r = -EPROTO;
	else if (strcmp(start, "new") == 0)
		r = inventory_store_all(cpr, connection, timeout_msec, ret_error);
	else if (cpr->doubt)
		r = inventory_adopt(cpr, connection, timeout_msec, ret_error);
	if (r == 0)
		cpr->doubt = false;
	json_decref(answer);
	return r;
}

int vfio_cpr_open(const char *path, uint32_t flags, struct vfio_cpr **ret_cpr)
{
	struct vfio_cpr *cpr;
	uint8_t *own_process;
	long page_size = sysconf(_SC_PAGESIZE);
	int r;

	if (!ret_cpr || (flags & ~(VFIO_CPR_OPEN_UNPROTECTED | VFIO_CPR_OPEN_WAIT)) ||
	    flags == (VFIO_CPR_OPEN_UNPROTECTED | VFIO_CPR_OPEN_WAIT))
		return -EINVAL;
	own_process =
		mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (own_process == MAP_FAILED)
		return -ENOMEM;
	if (madvise(own_process, page_size, MADV_WIPEONFORK) < 0) {
		munmap(own_process, page_size);
		return -ENOMEM;
	}
	*own_process = 1;

	cpr = g_new0(struct vfio_cpr, 1);
	cpr->path = g_strdup(path ? path : default_path());
	cpr->own_process = own_process;
	cpr->page_size = page_size;
	cpr->timeout_msec = DEFAULT_TIMEOUT_MSEC;
	cpr->error = g_string_new(NULL);
	cpr->is_protected = true;
	cpr->resume = session_resume;
	inventory_init(cpr);
	cpr->spaces =
		g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)space_free);
	cpr->devices =
		g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)device_free);
	cpr->memories =
		g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)memory_free);
	event_init(cpr);

	r = connection_open(cpr->path, DEFAULT_TIMEOUT_MSEC, &cpr->connection);
	if ((r == -ENOENT || r == -ECONNREFUSED) && (flags & VFIO_CPR_OPEN_UNPROTECTED)) {
		cpr->is_protected = false;
		r = 0;
	}
	if ((r == -ENOENT || r == -ECONNREFUSED || r == -EAGAIN) && (flags & VFIO_CPR_OPEN_WAIT))
		r = 0; /* the first call connects */
	if (r < 0) {
		g_autofree char *why = refusal_tell(cpr->path, r);

		cpr_fail(cpr, r, "cannot connect to vfio-cprd at %s: %s",
			 *cpr->path ? cpr->path : "\"\"", why);
	}
	*ret_cpr = cpr;
	return r;
}

void vfio_cpr_close(struct vfio_cpr *cpr)
{
	if (!cpr)
		return;
	event_clear(cpr);
	g_clear_pointer(&cpr->connection, connection_close);
	g_hash_table_unref(cpr->spaces);
	g_hash_table_unref(cpr->devices);
	g_hash_table_unref(cpr->memories);
	inventory_clear(cpr);
	g_string_free(cpr->error, TRUE);
	munmap((void *)cpr->own_process, cpr->page_size);
	g_free(cpr->session);
	g_free(cpr->path);
	g_free(cpr);
}

/* Decodes the answer of Attach. */
static int start_decode(json_t *answer, bool repeated, enum vfio_cpr_start *ret_start,
			json_int_t *ret_objects)
{
	const char *start = json_string_value(json_object_get(answer, "start"));
	json_int_t objects = json_integer_value(json_object_get(answer, "objects"));

	if (!start)
		return -EPROTO;
	if (strcmp(start, "new") == 0)
		*ret_start = VFIO_CPR_START_NEW;
	else if (strcmp(start, "claimed") == 0)
		*ret_start = VFIO_CPR_START_CLAIMED;
	else if (strcmp(start, "resumed") == 0)
		*ret_start = VFIO_CPR_START_RESUMED;
	else
		return -EPROTO;
	/*
	 * "Resumed" after a repeat: the first try made or claimed the session, and its answer was
	 * lost. A session that holds something was claimed.
	 */
	if (repeated && *ret_start == VFIO_CPR_START_RESUMED)
		*ret_start = objects > 0 ? VFIO_CPR_START_CLAIMED : VFIO_CPR_START_NEW;
	*ret_objects = objects;
	return 0;
}

int vfio_cpr_attach(struct vfio_cpr *cpr, const char *name, enum vfio_cpr_start *ret_start)
{
	enum vfio_cpr_start start = VFIO_CPR_START_NEW;
	json_int_t objects = 0;
	int r;

	if (!*cpr->own_process)
		return cpr_check_slow(cpr);
	if (cpr->session || cpr->is_released)
		return cpr_fail(cpr, -EINVAL, "this handle is attached already: open another");
	if (!name || !session_name_is_valid(name))
		return cpr_fail(cpr, -EINVAL,
				"a session's name is 1 to 64 letters, digits or any of :._@-");

	if (cpr->is_protected) {
		bool repeated = false;
		json_t *answer = NULL;

		r = link_call(cpr, SESSION_METHOD("Attach"), json_pack("{s:s}", "name", name),
			      &answer, &repeated, NULL);
		if (r < 0)
			return r;
		r = start_decode(answer, repeated, &start, &objects);
		json_decref(answer);
		if (r < 0)
			return cpr_fail(cpr, r, "vfio-cprd's answer to Attach is not understood");
	}

	/* From here on a lost connection is resumed under this name. */
	cpr->session = g_strdup(name);
	cpr->start = start;
	if (start != VFIO_CPR_START_NEW || objects > 0) {
		r = inventory_fetch(cpr, true);
		if (r < 0) {
			g_clear_pointer(&cpr->session, g_free);
			return r;
		}
	}
	event_session_changed(cpr);
	if (ret_start)
		*ret_start = start;
	return 0;
}

int vfio_cpr_commit(struct vfio_cpr *cpr)
{
	GHashTableIter iter;
	gpointer space;
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = spaces_open_all(cpr);
	if (r < 0)
		return r;
	g_hash_table_iter_init(&iter, cpr->spaces);
	while (g_hash_table_iter_next(&iter, NULL, &space)) {
		r = vfio_cpr_dma_restore(space);
		if (r < 0)
			return r;
	}
	if (!cpr->is_protected)
		return 0;
	return link_call(cpr, SESSION_METHOD("Commit"), NULL, NULL, NULL, NULL);
}

int vfio_cpr_release(struct vfio_cpr *cpr)
{
	bool repeated = false;
	char name[64] = "";
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	if (cpr->is_protected) {
		r = link_call(cpr, SESSION_METHOD("Release"), NULL, NULL, &repeated, name);
		/* Somebody else has released it, or the first try did and its answer was lost. */
		if (r < 0 && strcmp(name, "NotHolder") != 0 &&
		    !(repeated && strcmp(name, "NoSuchSession") == 0))
			return r;
	}
	cpr->is_released = true;
	cpr->events.released = false;
	event_session_changed(cpr);
	return 0;
}
