/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes told apart by their pidfds, also when one has the number of another that has died. */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/kernel.h"
#include "daemon/process.h"
#include "tests/unit/suite.h"

/* Both ways to compare, the second as before Linux 6.9. */
static int (*const ways[])(int, int) = {process_same, process_same_by_number};

/* A child that waits to be killed. wanted: its number, or 0 for any. */
static pid_t start(pid_t wanted)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = wanted > 0 ? (uintptr_t)&wanted : 0,
		.set_tid_size = wanted > 0,
	};
	pid_t pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static int pidfd_of(pid_t pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void end(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(two_pidfds_of_a_process_that_lives_are_the_same)
{
	pid_t pid = start(0);
	int a = pidfd_of(pid), b = pidfd_of(pid);

	ck_assert_int_eq(ways[_i](a, b), 1);
	ck_assert_int_eq(ways[_i](a, a), 1);
	end(pid);
	ck_assert_msg(ways[_i](a, b) == 0, "it has died");
}
END_TEST

START_TEST(two_processes_are_not_the_same)
{
	pid_t one = start(0), other = start(0);
	int a = pidfd_of(one), b = pidfd_of(other);

	ck_assert_int_eq(ways[_i](a, b), 0);
	end(one);
	ck_assert_int_eq(ways[_i](a, b), 0);
	ck_assert_int_eq(ways[_i](b, a), 0);
	end(other);
	ck_assert_int_eq(ways[_i](a, b), 0);
}
END_TEST

START_TEST(a_process_with_the_number_of_a_dead_one_is_not_that)
{
	pid_t pid = start(0);
	int dead = pidfd_of(pid), living;

	end(pid);
	if (start(pid) != pid) {
		suite_skip("no process can be given a number here");
		return;
	}
	living = pidfd_of(pid);
	ck_assert_int_eq(process_number(living), pid);
	ck_assert_int_eq(ways[_i](dead, living), 0);
	ck_assert_int_eq(ways[_i](living, dead), 0);
	end(pid);
}
END_TEST

START_TEST(what_is_no_pidfd_is_no_process)
{
	int pipe_ends[2];
	pid_t pid = start(0);
	int a = pidfd_of(pid);

	ck_assert_int_eq(pipe(pipe_ends), 0);
	ck_assert_int_le(ways[_i](-1, -1), 0);
	ck_assert_int_le(ways[_i](a, -1), 0);
	ck_assert_int_le(ways[_i](-1, a), 0);
	ck_assert_int_le(ways[_i](a, pipe_ends[0]), 0);
	ck_assert_int_le(ways[_i](pipe_ends[0], pipe_ends[0]), 0);
	end(pid);
}
END_TEST

START_TEST(a_process_lives_until_it_has_died_waited_for_or_not)
{
	pid_t pid = start(0);
	siginfo_t info;
	int fd = pidfd_of(pid);

	ck_assert(process_lives(fd));
	ck_assert_int_eq(process_number(fd), pid);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert(!process_lives(fd));
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert(!process_lives(fd));
	ck_assert_int_eq(process_number(fd), -ESRCH);
	ck_assert(!process_lives(-1));
	ck_assert_int_eq(process_number(-1), -ENOENT);
}
END_TEST

#define SKIP 77

/* Its exit status is what compare() returns. */
static int in_child(int (*compare)(const int *pidfds), const int *pidfds)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(compare(pidfds));
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* On a kernel with pidfs it is told all the same, and on one without it is said that it is not. */
static int compare(const int *pidfds)
{
	if (getpid() != 1 || mount("proc", "/proc", "proc", 0, NULL) < 0)
		return SKIP;
	if (process_number(pidfds[0]) != 0 || process_number(pidfds[1]) != 0)
		return 1;
	if (process_same_by_number(pidfds[0], pidfds[1]) >= 0)
		return 2;
	return process_same(pidfds[0], pidfds[1]) > 0 ? 3 : 0;
}

/* The number is 0 there, and the same for all. */
START_TEST(processes_of_another_pid_namespace_are_not_told_apart_by_number)
{
	pid_t one = start(0), other = start(0), maker;
	int a = pidfd_of(one), b = pidfd_of(other), status;

	maker = fork();
	if (maker == 0)
		_exit(unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
				      mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
			      ? SKIP
			      : in_child(compare, (int[]){a, b}));
	ck_assert_int_eq(waitpid(maker, &status, 0), maker);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == SKIP)
		suite_skip("no PID namespace can be made");
	else
		ck_assert_int_eq(WEXITSTATUS(status), 0);
	end(one);
	end(other);
}
END_TEST

SUITE("process", NULL, NULL)
{
	int n = sizeof(ways) / sizeof(ways[0]);

	tcase_add_loop_test(tests, two_pidfds_of_a_process_that_lives_are_the_same, 0, n);
	tcase_add_loop_test(tests, two_processes_are_not_the_same, 0, n);
	tcase_add_loop_test(tests, a_process_with_the_number_of_a_dead_one_is_not_that, 0, n);
	tcase_add_loop_test(tests, what_is_no_pidfd_is_no_process, 0, n);
	tcase_add_test(tests, a_process_lives_until_it_has_died_waited_for_or_not);
	tcase_add_test(tests, processes_of_another_pid_namespace_are_not_told_apart_by_number);
}
