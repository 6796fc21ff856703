/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looks at what messages brought: what can wait is a thread's, and what hangs costs its owner alone. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/table.h"
#include "daemon/account.h"
#include "daemon/devnumbers.h"
#include "daemon/eventfdcheck.h"
#include "daemon/fdinfo.h"
#include "daemon/kernel.h"
#include "daemon/look.h"
#include "daemon/object.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

#define STATE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static struct event_base *base;
static GThread *loop_thread;
static GMutex lock;
static GCond changed;
static bool gate_is_open;
static int looked, done, fds_before;
static struct account *account;
static struct look *look;
static struct kernel_ops fake;

static int open_fds(void)
{
	int n = 0;

	worker_drain();
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* As a driver whose lock somebody holds. In the loop there is nothing to wait for. */
static int flags_at_gate(int fd)
{
	if (g_thread_self() != loop_thread) {
		g_mutex_lock(&lock);
		while (!gate_is_open)
			g_cond_wait(&changed, &lock);
		looked++;
		g_mutex_unlock(&lock);
	}
	return kernel_real.open_flags(fd);
}

static void open_gate(void)
{
	g_mutex_lock(&lock);
	gate_is_open = true;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
}

static void count_done(void *data)
{
	ck_assert_ptr_eq(g_thread_self(), loop_thread);
	done += GPOINTER_TO_INT(data);
}

static void wait_done(int n)
{
	while (done < n)
		event_base_loop(base, EVLOOP_ONCE);
}

/* Until what nobody took is closed as well. */
static void wait_closed(void)
{
	while (account->closing > 0)
		event_base_loop(base, EVLOOP_ONCE);
}

static void setup(void)
{
	loop_thread = g_thread_self();
	base = event_base_new();
	ck_assert_int_eq(worker_start(base), 0);
	fake = kernel_real;
	fake.open_flags = flags_at_gate;
	kernel = &fake;
	gate_is_open = true;
	looked = done = 0;
	ck_assert_int_eq(fdinfo_begin(), 0);
	account = account_get(1234);
	eventfdcheck_begin();
	devnumbers_begin();
	fds_before = open_fds();
	look = look_new(account);
}

static void teardown(void)
{
	look_drop(look);
	wait_closed();
	ck_assert_int_eq(open_fds(), fds_before);
	ck_assert_uint_eq(account->descriptors, 0);
	ck_assert_uint_eq(account->errands[ERRAND_MAY_HANG], 0);
	account_put(account);
	worker_stop();
	event_base_free(base);
	fdinfo_end();
	eventfdcheck_end();
	devnumbers_end();
}

/* An object of the descriptor, given to the look. */
static struct object *add(enum object_kind kind, const char *name, int fd)
{
	struct object *object = g_new0(struct object, 1);

	ck_assert_int_ge(fd, 0);
	object->id = 1;
	object->kind = kind;
	object->name = g_strdup(name);
	object->fds = g_array_new(FALSE, FALSE, sizeof(int));
	g_array_append_val(object->fds, fd);
	object->held = 1;
	look_add(look, object);
	return object;
}

static int memory(off_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(ftruncate(fd, size), 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void run(void)
{
	if (!look_begin(look, count_done, GINT_TO_POINTER(1)))
		wait_done(1);
}

static void assert_refused(const char *words)
{
	run();
	ck_assert_ptr_nonnull(look_refusal(look));
	ck_assert_msg(strstr(look_refusal(look), words) != NULL, "%s", look_refusal(look));
}

START_TEST(eventfds_are_known_without_a_thread)
{
	struct object *object, *first = NULL;

	for (int i = 0; i < 100; i++) {
		object = add(OBJECT_EVENTFD, "e", eventfd(0, EFD_CLOEXEC));
		first = first ? first : object;
	}
	ck_assert_uint_eq(account->descriptors, 100);
	ck_assert(look_begin(look, count_done, GINT_TO_POINTER(1)));
	ck_assert_int_eq(done, 0);
	ck_assert_uint_eq(account->errands[ERRAND_MAY_HANG], 0);
	ck_assert_ptr_null(look_refusal(look));
	object = look_take(look);
	ck_assert_ptr_eq(object, first);
	ck_assert_uint_eq(account->descriptors, 99);
	object_free(object);
}
END_TEST

START_TEST(memory_is_looked_at_in_a_thread_and_never_sealed)
{
	int fd = memory(12288, 0);
	struct object *object = add(OBJECT_MEMORY, "ram", fd);

	run();
	ck_assert_ptr_null(look_refusal(look));
	ck_assert_uint_eq(object->size, 12288);
	ck_assert_int_eq(fcntl(fd, F_GET_SEALS), 0);
	ck_assert_int_eq(looked, 1);
}
END_TEST

START_TEST(many_objects_are_one_errand)
{
	gate_is_open = false;
	add(OBJECT_EVENTFD, "e", eventfd(0, EFD_CLOEXEC));
	for (int i = 0; i < 50; i++)
		add(OBJECT_MEMORY, "ram", memory(4096, 0));
	ck_assert(!look_begin(look, count_done, GINT_TO_POINTER(1)));
	ck_assert_uint_eq(account->errands[ERRAND_MAY_HANG], 1);
	open_gate();
	wait_done(1);
	ck_assert_int_eq(looked, 50);
	for (int i = 0; i < 51; i++)
		object_free(look_take(look));
	ck_assert_ptr_null(look_take(look));
}
END_TEST

START_TEST(an_eventfd_that_is_none_is_explained)
{
	add(OBJECT_EVENTFD, "e", memory(4096, 0));
	assert_refused("a regular file");
}
END_TEST

START_TEST(an_o_path_descriptor_of_an_eventfd_is_none)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);

	add(OBJECT_EVENTFD, "e", open(path, O_PATH | O_CLOEXEC));
	close(fd);
	assert_refused("O_PATH");
}
END_TEST

START_TEST(a_state_has_a_limit)
{
	struct object *object = add(OBJECT_STATE, "s", memory(STATE_MAX_BYTES, STATE_SEALS));

	run();
	ck_assert_ptr_null(look_refusal(look));
	ck_assert_uint_eq(object->size, STATE_MAX_BYTES);
	look_drop(look);
	look = look_new(account);
	add(OBJECT_STATE, "s", memory(STATE_MAX_BYTES + 1, STATE_SEALS));
	done = 0;
	assert_refused("16777216");
}
END_TEST

START_TEST(a_table_is_one_of_the_librarys)
{
	add(OBJECT_TABLE, "dma", table_create(8));
	run();
	ck_assert_ptr_null(look_refusal(look));
	look_drop(look);
	look = look_new(account);
	add(OBJECT_TABLE, "dma", memory(64 + 8 * 32, F_SEAL_SHRINK | F_SEAL_GROW));
	done = 0;
	assert_refused("mapping table");
}
END_TEST

/* The connection has ended meanwhile: nobody comes back for it. */
START_TEST(what_is_dropped_under_way_stays_counted_until_it_is_closed)
{
	struct look *stuck = look;

	gate_is_open = false;
	add(OBJECT_MEMORY, "ram", memory(4096, 0));
	ck_assert(!look_begin(look, count_done, GINT_TO_POINTER(1)));
	look = NULL;
	look_drop(stuck);
	ck_assert_uint_eq(account->descriptors, 1);
	ck_assert_uint_eq(account->closing, 1);
	ck_assert_uint_eq(account->errands[ERRAND_MAY_HANG], 1);
	open_gate();
	wait_done(1);
	wait_closed();
}
END_TEST

/* It has every thread that it may have at work, and the others have theirs. */
START_TEST(a_user_whose_looks_hang_keeps_no_other_waiting)
{
	struct account *other = account_get(5678);
	struct look *stuck[300], *quick = look_new(other);
	struct look *own = look;

	gate_is_open = false;
	for (int i = 0; i < 300; i++) {
		look = stuck[i] = look_new(account);
		add(OBJECT_MEMORY, "ram", memory(4096, 0));
		ck_assert(!look_begin(look, count_done, GINT_TO_POINTER(1000)));
	}
	ck_assert_uint_lt(account->errands[ERRAND_MAY_HANG], 300);
	look = quick;
	add(OBJECT_STATE, "s", memory(4096, STATE_SEALS));
	ck_assert(!look_begin(quick, count_done, GINT_TO_POINTER(1)));
	ck_assert_uint_eq(other->errands[ERRAND_MAY_HANG], 1); /* it has a thread of its own */
	open_gate();
	wait_done(300 * 1000 + 1);
	ck_assert_ptr_null(look_refusal(quick));
	look_drop(quick);
	for (int i = 0; i < 300; i++)
		look_drop(stuck[i]);
	while (other->closing > 0)
		event_base_loop(base, EVLOOP_ONCE);
	account_put(other);
	look = own;
}
END_TEST

SUITE("look", setup, teardown)
{
	tcase_add_test(tests, eventfds_are_known_without_a_thread);
	tcase_add_test(tests, memory_is_looked_at_in_a_thread_and_never_sealed);
	tcase_add_test(tests, many_objects_are_one_errand);
	tcase_add_test(tests, an_eventfd_that_is_none_is_explained);
	tcase_add_test(tests, an_o_path_descriptor_of_an_eventfd_is_none);
	tcase_add_test(tests, a_state_has_a_limit);
	tcase_add_test(tests, a_table_is_one_of_the_librarys);
	tcase_add_test(tests, what_is_dropped_under_way_stays_counted_until_it_is_closed);
	tcase_add_test(tests, a_user_whose_looks_hang_keeps_no_other_waiting);
}
