/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is done when a holder has died: a worker settles the address spaces (settle.c), in the name of
 * the session's owner, then the session is an orphan that can be claimed.
 */
#include "daemon/orphan.h"

#include "daemon/errand.h"
#include "daemon/happen.h"
#include "daemon/keep.h"
#include "daemon/oldorphan.h"
#include "daemon/session.h"
#include "daemon/settle.h"
#include "daemon/worker.h"

struct orphan_work {
	struct session *session;
	GArray *plan;
	pid_t pid; /* its holder was */
	gint64 started;
};

static void orphan_in_thread(void *data)
{
	struct orphan_work *work = data;

	settle_run(work->plan);
}

static void orphan_done(void *data)
{
	struct orphan_work *work = data;
	struct session *session = work->session;
	const struct happening_detail detail = {
		.pid = work->pid,
		.spaces = work->plan->len,
		.usec = g_get_monotonic_time() - work->started,
	};

	settle_finish(work->plan, session);
	g_free(work);
	if (!session->server)
		return; /* the daemon has ended */
	session_set_state(session, SESSION_ORPHANED);
	session_happened(session, HAPPENED_ORPHANED, &detail);
	oldorphan_watch(session);
	keep_state_later(session); /* nobody waits for it: without it the work is done again */
	session_set_idle(session);
}

void orphan_begin(struct session *session, pid_t pid)
{
	struct orphan_work *work = g_new(struct orphan_work, 1);

	g_assert(!session->busy);
	*work = (struct orphan_work){
		.session = session,
		.plan = settle_plan(session),
		.pid = pid,
		.started = g_get_monotonic_time(),
	};
	session->busy = true;
	/*
	 * A container's lock is held while one of its user's processes maps memory, which may be of a
	 * file system of its own that never answers: vfio_iommu_type1_map_dma(), the pinning in it.
	 */
	if (work->plan->len > 0)
		errand_run_settling(session->account, orphan_in_thread, orphan_done, work);
	else
		worker_run(orphan_in_thread, orphan_done, work);
}
