/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Settling the address spaces of a session: daemon/settle.h. */
#include "daemon/settle.h"

#include "daemon/log.h"
#include "daemon/session.h"

#define WARNINGS_TOLD 8 /* of one death */

/* One address space's part; the descriptors are the session's. */
struct settle_task {
	char *name;
	int container, iommufd; /* one of them -1 */
	int table;		/* -1: it has none */
	struct space_status *status;
};

static void add_task(GArray *plan, const struct session *session, const struct object *object)
{
	int fd = g_array_index(object->fds, int, 0);
	const struct object *table = object_set_find(&session->objects, OBJECT_TABLE, object->name);
	struct settle_task task = {
		.name = g_strdup(object->name),
		.container = object->kind == OBJECT_CONTAINER ? fd : -1,
		.iommufd = object->kind == OBJECT_IOMMUFD ? fd : -1,
		.table = table ? g_array_index(table->fds, int, 0) : -1,
		.status = g_new0(struct space_status, 1),
	};

	g_array_append_val(plan, task);
}

GArray *settle_plan(const struct session *session)
{
	GArray *plan = g_array_new(FALSE, FALSE, sizeof(struct settle_task));

	for (guint i = 0; i < session->objects.objects->len; i++) {
		const struct object *object = g_ptr_array_index(session->objects.objects, i);

		if (object->kind == OBJECT_CONTAINER || object->kind == OBJECT_IOMMUFD)
			add_task(plan, session, object);
	}
	return plan;
}

void settle_run(GArray *plan)
{
	for (guint i = 0; i < plan->len; i++) {
		struct settle_task *task = &g_array_index(plan, struct settle_task, i);
		struct space_status *status = task->status;

		status->vaddr =
			task->container >= 0
				? space_invalidate(task->container, task->table, &status->warning)
				: space_disown(task->iommufd, &status->warning);
	}
}

/* A session may have thousands of containers that fail, and die again and again. */
static void warn(const struct session *session, const struct settle_task *task, unsigned int n)
{
	if (n <= WARNINGS_TOLD)
		log_warning(session, "session %s, address space %s: %s", session->name, task->name,
			    task->status->warning);
	else if (n == WARNINGS_TOLD + 1)
		log_warning(session,
			    "session %s: more address spaces have a warning: see vfio-cprctl show",
			    session->name);
}

void settle_finish(GArray *plan, struct session *session)
{
	unsigned int warnings = 0;

	for (guint i = 0; i < plan->len; i++) {
		struct settle_task *task = &g_array_index(plan, struct settle_task, i);

		if (task->status->warning)
			warn(session, task, ++warnings);
		g_hash_table_replace(session->spaces, task->name, task->status);
	}
	g_array_unref(plan);
}
