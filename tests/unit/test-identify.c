/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a descriptor is: the allow-list, and what a refusal tells. Devices answer through a fake. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "daemon/devnumbers.h"
#include "daemon/identify.h"
#include "daemon/kernel.h"
#include "tests/unit/suite.h"

#define STATE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int version, probe, same, device;
static bool tells_eventfds;
static bool is_opened; /* as far as the daemon can tell */

static int fake_container_version(int fd)
{
	(void)fd;
	return version;
}

static int fake_iommufd_probe(int fd)
{
	(void)fd;
	return probe;
}

/* Nodes of drivers that are not here can be had by O_PATH alone. */
static int fake_open_flags(int fd)
{
	return is_opened ? O_RDWR : kernel_real.open_flags(fd);
}

static int fake_is_eventfd(int fd)
{
	return tells_eventfds ? kernel_real.is_eventfd(fd) : -ENOSYS;
}

static int fake_device_probe(int fd)
{
	(void)fd;
	return device;
}

static int fake_same_file(int a, int b)
{
	(void)a;
	(void)b;
	return same;
}

static const struct kernel_ops fake = {
	.container_version = fake_container_version,
	.iommufd_probe = fake_iommufd_probe,
	.same_file = fake_same_file,
	.open_flags = fake_open_flags,
	.is_eventfd = fake_is_eventfd,
	.device_probe = fake_device_probe,
};

static char *refusal;

static void setup(void)
{
	kernel = &fake;
	version = 0;
	probe = -ENOTTY;
	same = -EINVAL;
	device = 0;
	is_opened = false;
	tells_eventfds = true;
	refusal = NULL;
}

static void teardown(void)
{
	g_free(refusal);
}

/* Refused, with these words; consumes fd. */
static void assert_refused(int fd, enum object_kind kind, const char *words)
{
	g_autofree char *text = identify_refusal(fd, kind, "some");

	ck_assert_int_ge(fd, 0);
	ck_assert_msg(text != NULL, "%s: not refused", object_kind_name(kind));
	ck_assert_msg(strstr(text, words) != NULL, "%s", text);
	ck_assert_msg(strstr(text, "some") != NULL, "%s", text);
	close(fd);
}

static void assert_is(int fd, enum object_kind kind)
{
	g_autofree char *text = identify_refusal(fd, kind, "some");

	ck_assert_int_ge(fd, 0);
	ck_assert_msg(text == NULL, "%s", text);
	close(fd);
}

static int memory(int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

START_TEST(an_eventfd_is_an_eventfd_and_nothing_else)
{
	if (_i == OBJECT_EVENTFD)
		assert_is(eventfd(0, EFD_CLOEXEC), _i);
	else
		assert_refused(eventfd(0, EFD_CLOEXEC), _i, "an eventfd");
}
END_TEST

START_TEST(a_memfd_is_memory_or_a_table_or_sealed_a_state)
{
	if (_i == OBJECT_MEMORY || _i == OBJECT_TABLE)
		assert_is(memory(0), _i);
	else if (_i == OBJECT_STATE)
		assert_is(memory(STATE_SEALS), _i);
	else
		assert_refused(memory(0), _i, "a regular file");
}
END_TEST

START_TEST(a_state_needs_each_of_three_seals)
{
	static const int seals[] = {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE};

	assert_refused(memory(STATE_SEALS & ~seals[_i]), OBJECT_STATE, "F_SEAL_WRITE");
}
END_TEST

START_TEST(memory_is_open_for_reading_and_writing)
{
	int fd = memory(0);
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);

	assert_refused(open(path, O_RDONLY | O_CLOEXEC), OBJECT_MEMORY, "O_RDWR");
	assert_refused(open(path, O_WRONLY | O_CLOEXEC), OBJECT_MEMORY, "O_RDWR");
	assert_is(open(path, O_RDWR | O_CLOEXEC), OBJECT_MEMORY);
	close(fd);
}
END_TEST

START_TEST(what_no_restart_keeps_is_refused_as_any_kind)
{
	int pipes[2], sockets[2];

	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_refused(pipes[0], _i, "a pipe");
	assert_refused(pipes[1], _i, "a pipe");
	assert_refused(sockets[0], _i, "a socket");
	assert_refused(sockets[1], _i, "a socket");
	assert_refused(open("/", O_RDONLY | O_CLOEXEC), _i, "a directory");
	assert_refused(open("/proc/version", O_RDONLY | O_CLOEXEC), _i, "a regular file");
	assert_refused(open("/dev/null", O_RDWR | O_CLOEXEC), _i, "does not know");
	assert_refused(epoll_create1(EPOLL_CLOEXEC), _i, "does not know");
	assert_refused(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), _i, "does not know");
}
END_TEST

START_TEST(a_closed_descriptor_is_refused)
{
	refusal = identify_refusal(-1, OBJECT_EVENTFD, "some");
	ck_assert_ptr_nonnull(refusal);
}
END_TEST

START_TEST(a_file_named_like_an_anonymous_inode_is_not_one)
{
	g_autofree char *directory = g_dir_make_tmp("identify-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(directory, "anon_inode:[eventfd]", NULL);

	assert_refused(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), OBJECT_EVENTFD,
		       "a regular file");
	g_unlink(path);
	g_rmdir(directory);
	assert_refused(memfd_create("anon_inode:[eventfd]", MFD_CLOEXEC), OBJECT_EVENTFD,
		       "a regular file");
}
END_TEST

/* A descriptor of a device node that no driver was asked for; -1 where that is not allowed. */
static int device_node(unsigned int major_number, unsigned int minor_number)
{
	g_autofree char *directory = g_dir_make_tmp("identify-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(directory, "node", NULL);
	int fd = -1;

	if (mknod(path, S_IFCHR | 0600, makedev(major_number, minor_number)) == 0)
		fd = open(path, O_PATH | O_CLOEXEC);
	g_unlink(path);
	g_rmdir(directory);
	return fd;
}

START_TEST(a_container_is_known_by_its_number_and_its_answer)
{
	int fd = device_node(10, 196);

	if (fd < 0) {
		suite_skip("only root may make a device node");
		return;
	}
	assert_refused(dup(fd), OBJECT_CONTAINER, "O_PATH");
	is_opened = true;
	assert_is(dup(fd), OBJECT_CONTAINER);
	assert_refused(dup(fd), OBJECT_GROUP, "a VFIO container");
	version = 1;
	assert_refused(dup(fd), OBJECT_CONTAINER, "a VFIO container");
	version = -ENOTTY;
	assert_refused(dup(fd), OBJECT_CONTAINER, "a VFIO container");
	version = 0;
	probe = 0;
	assert_refused(dup(fd), OBJECT_CONTAINER, "CONFIG_IOMMUFD_VFIO_CONTAINER");
	close(fd);
}
END_TEST

START_TEST(a_kvm_descriptor_is_refused_with_the_reason)
{
	int fd = device_node(10, 232);

	is_opened = true;
	if (fd >= 0)
		assert_refused(fd, _i, "irqfds");
}
END_TEST

/* It looks like the file, and is no open one: whatever it names would not be held. */
START_TEST(an_o_path_descriptor_is_refused_as_any_kind)
{
	int fds[] = {eventfd(0, EFD_CLOEXEC), memory(0), memory(STATE_SEALS),
		     open("/dev/null", O_RDWR | O_CLOEXEC)};

	for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
		g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fds[i]);
		int fd = open(path, O_PATH | O_CLOEXEC);

		ck_assert(!identify_eventfd(fd));
		assert_refused(fd, _i, "O_PATH");
		close(fds[i]);
	}
}
END_TEST

/* By the question, and where that cannot be asked, by the link. */
START_TEST(only_an_open_eventfd_is_known_at_once)
{
	int pipes[2], event = eventfd(7, EFD_CLOEXEC);
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", event);
	int others[] = {memory(0),
			epoll_create1(EPOLL_CLOEXEC),
			timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC),
			open(path, O_PATH | O_CLOEXEC),
			open("/dev/null", O_RDWR | O_CLOEXEC),
			-1,
			-1};
	eventfd_t count;

	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	others[5] = pipes[0];
	tells_eventfds = _i;
	ck_assert(identify_eventfd(event));
	for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
		ck_assert_msg(!identify_eventfd(others[i]), "number %zu", i);
	/* The question has not changed it: what waits is an interrupt. */
	ck_assert_int_eq(eventfd_read(event, &count), 0);
	ck_assert_uint_eq(count, 7);
}
END_TEST

START_TEST(the_question_for_eventfds_can_be_asked_here)
{
	int event = eventfd(0, EFD_CLOEXEC);

	ck_assert_int_eq(kernel_real.is_eventfd(event), 1);
	ck_assert_int_eq(kernel_real.is_eventfd(-1), 0);
	close(event);
}
END_TEST

START_TEST(drivers_are_known_by_the_numbers_that_they_have_now)
{
	g_autofree char *text = NULL;
	unsigned int number;
	char name[64];

	ck_assert(devnumbers_is_driver(1, "mem"));
	ck_assert(!devnumbers_is_driver(1, "vfio"));
	ck_assert(!devnumbers_is_driver(2, "mem"));
	ck_assert(!devnumbers_is_driver(259, "blkext")); /* of block devices */
	ck_assert(g_file_get_contents("/proc/misc", &text, NULL, NULL));
	ck_assert_int_eq(sscanf(text, "%u %63s", &number, name), 2);
	ck_assert(devnumbers_is_misc(10, number, name));
	ck_assert(!devnumbers_is_misc(10, number + 1000, name));
	ck_assert(!devnumbers_is_misc(11, number, name));
	devnumbers_end();
	ck_assert(!devnumbers_is_driver(1, "mem"));
}
END_TEST

START_TEST(the_kernels_word_decides_whether_files_are_the_same)
{
	int a = eventfd(0, EFD_CLOEXEC), b = eventfd(0, EFD_CLOEXEC);

	same = 1;
	ck_assert(identify_same(a, b));
	same = 0;
	ck_assert(!identify_same(a, a));
	close(a);
	close(b);
}
END_TEST

START_TEST(without_the_kernels_word_the_inode_decides)
{
	int a = eventfd(0, EFD_CLOEXEC), b = eventfd(0, EFD_CLOEXEC), c = dup(a);
	int x = memory(0), y = memory(0), z = dup(x);

	ck_assert(identify_same(a, c));
	ck_assert(!identify_same(a, b));
	ck_assert(identify_same(x, z));
	ck_assert(!identify_same(x, y));
	ck_assert(!identify_same(a, x));
	ck_assert(!identify_same(a, -1));
	close(a);
	close(b);
	close(c);
	close(x);
	close(y);
	close(z);
}
END_TEST

START_TEST(the_real_kernel_tells_open_files_apart)
{
	int a = memory(0), b = dup(a), c;
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", a);

	kernel = &kernel_real;
	c = open(path, O_RDWR | O_CLOEXEC);
	ck_assert(identify_same(a, b));
	if (kernel->same_file(a, b) >= 0)
		ck_assert(!identify_same(a, c));
	close(a);
	close(b);
	close(c);
}
END_TEST

SUITE("identify", setup, teardown)
{
	tcase_add_loop_test(tests, an_eventfd_is_an_eventfd_and_nothing_else, 0, OBJECT_KINDS);
	tcase_add_loop_test(tests, a_memfd_is_memory_or_a_table_or_sealed_a_state, 0, OBJECT_KINDS);
	tcase_add_loop_test(tests, a_state_needs_each_of_three_seals, 0, 3);
	tcase_add_test(tests, memory_is_open_for_reading_and_writing);
	tcase_add_loop_test(tests, what_no_restart_keeps_is_refused_as_any_kind, 0, OBJECT_KINDS);
	tcase_add_test(tests, a_closed_descriptor_is_refused);
	tcase_add_test(tests, a_file_named_like_an_anonymous_inode_is_not_one);
	tcase_add_test(tests, a_container_is_known_by_its_number_and_its_answer);
	tcase_add_loop_test(tests, a_kvm_descriptor_is_refused_with_the_reason, 0, OBJECT_KINDS);
	tcase_add_loop_test(tests, an_o_path_descriptor_is_refused_as_any_kind, 0, OBJECT_KINDS);
	tcase_add_loop_test(tests, only_an_open_eventfd_is_known_at_once, 0, 2);
	tcase_add_test(tests, the_question_for_eventfds_can_be_asked_here);
	tcase_add_test(tests, drivers_are_known_by_the_numbers_that_they_have_now);
	tcase_add_test(tests, the_kernels_word_decides_whether_files_are_the_same);
	tcase_add_test(tests, without_the_kernels_word_the_inode_decides);
	tcase_add_test(tests, the_real_kernel_tells_open_files_apart);
}
