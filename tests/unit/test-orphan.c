/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is done when a holder has died (daemon/orphan.h), and what becomes of it if that hangs. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>

#include "daemon/kernel.h"
#include "daemon/orphan.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

static struct event_base *base;
static struct server *server;
static struct session *session; /* the server's */
static struct kernel_ops ops;
static GMutex lock;
static GCond changed;
static bool gate_is_open;

/* As the kernel, while a process of the user's maps memory that does not come. */
static int unmap_vaddr(int container, bool all, uint64_t iova, uint64_t size, uint64_t *ret_size)
{
	(void)container;
	(void)all;
	(void)iova;
	(void)size;
	(void)ret_size;
	g_mutex_lock(&lock);
	while (!gate_is_open)
		g_cond_wait(&changed, &lock);
	g_mutex_unlock(&lock);
	return -EBUSY;
}

static void open_gate(void)
{
	g_mutex_lock(&lock);
	gate_is_open = true;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
}

static void hold_container(void)
{
	auto_fdlist fds = FDLIST_INIT;
	json_t *json = json_pack("{s:i, s:s, s:s, s:i}", "id", 1, "kind", "container", "name",
				 "dma", "firstFileDescriptor", 0);
	char *parameter, *message;
	size_t used = 0;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	fdlist_append(&fds, &fd, 1);
	object_set_add(&session->objects,
		       object_from_record(json, &fds, &used, &parameter, &message));
	json_decref(json);
}

static void setup(void)
{
	gate_is_open = false;
	ops = kernel_real;
	ops.unmap_vaddr = unmap_vaddr;
	kernel = &ops;
	base = event_base_new();
	ck_assert_int_eq(worker_start(base), 0);
	server = server_new(base, NULL);
	session = session_make(server, "vm", 1, SESSION_ACTIVE);
	hold_container();
	server_add_session(server, session);
}

START_TEST(it_is_an_orphan_when_its_address_spaces_are_settled)
{
	orphan_begin(session, 0);
	ck_assert(session->busy);
	ck_assert_int_eq(session->state, SESSION_ACTIVE);
	open_gate();
	while (session->busy)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(session->state, SESSION_ORPHANED);
	ck_assert(server_free(server));
	ck_assert(worker_stop());
	event_base_free(base);
}
END_TEST

START_TEST(work_that_hangs_does_not_keep_the_daemon_from_its_end)
{
	orphan_begin(session, 0);
	/* It would wait for other work for longer than this test may take. */
	ck_assert(server_free(server));
	ck_assert(session->busy);
	open_gate();
	ck_assert(worker_stop());
	/* It is left as it was, to the end of the process. */
	ck_assert_int_eq(session->state, SESSION_ACTIVE);
	event_base_free(base);
}
END_TEST

SUITE("orphan", setup, NULL)
{
	tcase_add_test(tests, it_is_an_orphan_when_its_address_spaces_are_settled);
	tcase_add_test(tests, work_that_hangs_does_not_keep_the_daemon_from_its_end);
}
