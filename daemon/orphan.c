/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is done when a holder has died, in a worker: its address spaces are settled one by one
 * (space.c), then the session is an orphan that can be claimed.
 */
#include "daemon/orphan.h"

#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/log.h"
#include "daemon/oldorphan.h"
#include "daemon/session.h"
#include "daemon/worker.h"

#define WARNINGS_TOLD 8 /* of one death */

/* One address space's part of the work; descriptors and table stay the session's, which is busy. */
struct orphan_task {
	char *name;
	int container, iommufd; /* one of them -1 */
	const struct table *table;
	struct space_status *status;
};

struct orphan_work {
	struct session *session;
	GArray *tasks;
	pid_t pid; /* its holder was */
	gint64 started;
};

static void orphan_in_thread(void *data)
{
	struct orphan_work *work = data;

	for (guint i = 0; i < work->tasks->len; i++) {
		struct orphan_task *task = &g_array_index(work->tasks, struct orphan_task, i);
		struct space_status *status = task->status;

		status->vaddr =
			task->container >= 0
				? space_invalidate(task->container, task->table, &status->warning)
				: space_disown(task->iommufd, &status->warning);
	}
}

/* A session may have thousands of containers that fail, and die again and again. */
static void warn(const struct session *session, const struct orphan_task *task, unsigned int n)
{
	if (n <= WARNINGS_TOLD)
		log_warning(session, "session %s, address space %s: %s", session->name, task->name,
			    task->status->warning);
	else if (n == WARNINGS_TOLD + 1)
		log_warning(session,
			    "session %s: more address spaces have a warning: see vfio-cprctl show",
			    session->name);
}

static void orphan_done(void *data)
{
	struct orphan_work *work = data;
	struct session *session = work->session;
	unsigned int warnings = 0;

	for (guint i = 0; i < work->tasks->len; i++) {
		struct orphan_task *task = &g_array_index(work->tasks, struct orphan_task, i);

		if (task->status->warning)
			warn(session, task, ++warnings);
		g_hash_table_replace(session->spaces, task->name, task->status);
	}
	session_set_state(session, SESSION_ORPHANED);
	session_happened(session, HAPPENED_ORPHANED,
			 &(struct happening_detail){
				 .pid = work->pid,
				 .spaces = work->tasks->len,
				 .usec = g_get_monotonic_time() - work->started,
			 });
	oldorphan_watch(session);
	g_array_unref(work->tasks);
	g_free(work);
	keep_state(session); /* nobody waits for it: without it the work is done again */
	session_set_idle(session);
}

static void add_task(GArray *tasks, const struct session *session, const struct object *object)
{
	int fd = g_array_index(object->fds, int, 0);
	const struct object *table = object_set_find(&session->objects, OBJECT_TABLE, object->name);
	struct orphan_task task = {
		.name = g_strdup(object->name),
		.container = object->kind == OBJECT_CONTAINER ? fd : -1,
		.iommufd = object->kind == OBJECT_IOMMUFD ? fd : -1,
		.table = table ? &table->table : NULL,
		.status = g_new0(struct space_status, 1),
	};

	g_array_append_val(tasks, task);
}

void orphan_begin(struct session *session, pid_t pid)
{
	struct orphan_work *work;

	work = g_new(struct orphan_work, 1);
	*work = (struct orphan_work){
		.session = session,
		.tasks = g_array_new(FALSE, FALSE, sizeof(struct orphan_task)),
		.pid = pid,
		.started = g_get_monotonic_time(),
	};
	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);

		if (object->kind == OBJECT_CONTAINER || object->kind == OBJECT_IOMMUFD)
			add_task(work->tasks, session, object);
	}
	session->busy = true;
	worker_run(orphan_in_thread, orphan_done, work);
}
