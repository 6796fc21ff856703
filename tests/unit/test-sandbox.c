/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon takes from itself: each call is tried in a child that has entered the sandbox, in a
 * thread that was there before, and with arguments with which it would not fail by EPERM of itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox.h"
#include "tests/unit/suite.h"

#define NOTHING (-1L)

struct attempt {
	const char *name;
	long call, arguments[5];
	int error; /* EPERM, if it is left out */
};

static const char nowhere[] = "/nonexistent/file";
static const struct sockaddr_un address = {.sun_family = AF_UNIX,
					   .sun_path = "/nonexistent/socket"};

#define PATH (long)nowhere
#define AS(what, number, ...)                                              \
	{                                                                  \
		.name = what, .call = number, .arguments = { __VA_ARGS__ } \
	}
#define CALL(name, ...) AS(#name, SYS_##name, __VA_ARGS__)

/* Each is harmless where it is allowed, so that the test can fail. */
static const struct attempt attempts[] = {
	CALL(execve, PATH),
	CALL(execveat, AT_FDCWD, PATH),
#ifdef SYS_fork
	CALL(rename, PATH, PATH),
	CALL(link, PATH, PATH),
	CALL(symlink, PATH, PATH),
	CALL(mkdir, PATH, 0),
	CALL(rmdir, PATH),
	CALL(chmod, PATH, 0),
	CALL(creat, PATH, 0),
	AS("open O_WRONLY", SYS_open, PATH, O_WRONLY),
	AS("open O_RDWR", SYS_open, PATH, O_RDWR),
	AS("open O_CREAT", SYS_open, PATH, O_CREAT),
#endif
	CALL(ptrace, NOTHING, NOTHING),
	CALL(process_vm_readv, NOTHING),
	CALL(process_vm_writev, NOTHING),
	CALL(process_madvise, NOTHING),
	CALL(pidfd_getfd, NOTHING, NOTHING),
	CALL(pidfd_send_signal, NOTHING),
	AS("kill another", SYS_kill, 1, 0),
	AS("kill all", SYS_kill, NOTHING, 0),
	AS("kill its group", SYS_kill, 0, 0),
	AS("tgkill another", SYS_tgkill, 1, 1, 0),
	CALL(tkill, 1, 0),
	CALL(rt_sigqueueinfo, 1, 0),
	CALL(rt_tgsigqueueinfo, 1, 1, 0),
	AS("socket AF_INET", SYS_socket, AF_INET, SOCK_STREAM),
	AS("socket AF_INET6", SYS_socket, AF_INET6, SOCK_DGRAM),
	AS("socket AF_NETLINK", SYS_socket, AF_NETLINK, SOCK_RAW),
	AS("socket AF_ALG", SYS_socket, AF_ALG, SOCK_SEQPACKET),
	AS("socket AF_VSOCK", SYS_socket, AF_VSOCK, SOCK_STREAM),
	AS("socketpair AF_TIPC", SYS_socketpair, AF_TIPC, SOCK_STREAM),
	CALL(connect, NOTHING, (long)&address, sizeof(address)),
	CALL(bind, NOTHING, (long)&address, sizeof(address)),
	CALL(listen, NOTHING, 1),
	AS("openat O_WRONLY", SYS_openat, AT_FDCWD, PATH, O_WRONLY),
	AS("openat O_RDWR", SYS_openat, AT_FDCWD, PATH, O_RDWR),
	AS("openat O_ACCMODE", SYS_openat, AT_FDCWD, PATH, O_ACCMODE),
	AS("openat O_CREAT", SYS_openat, AT_FDCWD, PATH, O_CREAT),
	AS("openat O_TRUNC", SYS_openat, AT_FDCWD, PATH, O_TRUNC),
	AS("openat O_TMPFILE", SYS_openat, AT_FDCWD, PATH, O_TMPFILE | O_RDWR),
	{.name = "openat2", .call = SYS_openat2, .arguments = {AT_FDCWD, PATH}, .error = ENOSYS},
	CALL(open_by_handle_at, NOTHING),
	CALL(renameat2, AT_FDCWD, PATH, AT_FDCWD, PATH),
	CALL(linkat, AT_FDCWD, PATH, AT_FDCWD, PATH),
	CALL(symlinkat, PATH, AT_FDCWD, PATH),
	CALL(mkdirat, AT_FDCWD, PATH),
	CALL(mknodat, AT_FDCWD, PATH, S_IFREG),
	CALL(fchmodat, AT_FDCWD, PATH),
	CALL(fchownat, AT_FDCWD, PATH),
	CALL(truncate, PATH),
	CALL(setxattr, PATH),
	CALL(unshare, 0),
	CALL(setns, NOTHING, 0),
	CALL(mount, PATH, PATH),
	CALL(umount2, PATH, 0),
	CALL(pivot_root, PATH, PATH),
	CALL(chroot, PATH),
	CALL(move_mount, NOTHING, PATH, NOTHING, PATH),
	CALL(open_tree, AT_FDCWD, PATH),
	CALL(fsopen, PATH),
	CALL(fsconfig, NOTHING),
	CALL(fsmount, NOTHING),
	CALL(fspick, AT_FDCWD, PATH),
	CALL(mount_setattr, AT_FDCWD, PATH),
	CALL(bpf, NOTHING),
	CALL(userfaultfd, NOTHING),
	CALL(io_uring_setup, 0),
	CALL(io_uring_enter, NOTHING),
	CALL(io_uring_register, NOTHING),
	CALL(perf_event_open, 0),
	CALL(keyctl, NOTHING),
	CALL(add_key, 0),
	CALL(request_key, 0),
	CALL(memfd_secret, NOTHING),
	CALL(fanotify_init, NOTHING),
	CALL(personality, 0xffffffff),
	CALL(init_module, 0),
	CALL(finit_module, NOTHING),
	CALL(delete_module, PATH, O_NONBLOCK),
	CALL(kexec_load, 0, NOTHING),
	CALL(reboot, 0, 0),
	CALL(swapon, PATH),
	{.name = "clone3", .call = SYS_clone3, .arguments = {0, 0}, .error = ENOSYS},
	AS("clone a process", SYS_clone, SIGCHLD),
};

static void *in_thread(void *data)
{
	void *(*work)(void) = data;

	return work();
}

/* In a child, whose exit status is what work() in a thread returns; the sandbox comes after that. */
static int in_sandbox(void *(*work)(void), bool leaks_are_sought)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		pthread_t thread;
		void *result;

		if (sandbox_enter(leaks_are_sought) < 0)
			_exit(255);
		if (pthread_create(&thread, NULL, in_thread, work) != 0)
			_exit(254);
		pthread_join(thread, &result);
		_exit((int)(long)result);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static const struct attempt *attempt;

/* A clone that succeeds has two ends: the child must not come back. */
static void *try(void)
{
	const long *a = attempt->arguments;
	long r = syscall(attempt->call, a[0], a[1], a[2], a[3], a[4]);

	if (attempt->call == SYS_clone && r == 0)
		_exit(0);
	return (void *)(long)(r < 0 ? errno : 0);
}

START_TEST(a_call_that_the_daemon_never_makes_is_refused)
{
	int error;

	attempt = &attempts[_i];
	error = in_sandbox(try, false);
	ck_assert_msg(error == (attempt->error ?: EPERM), "%s: %s", attempt->name, strerror(error));
}
END_TEST

/* Else what the other test sees would be the kernel's own word, or that of another sandbox. */
START_TEST(the_same_calls_are_not_refused_outside_of_it)
{
	unsigned int allowed = 0, n = sizeof(attempts) / sizeof(attempts[0]);

	for (attempt = attempts; attempt < attempts + n; attempt++) {
		pid_t child = fork();
		int status;

		if (child == 0)
			_exit((int)(long)try());
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		if (WIFEXITED(status) && WEXITSTATUS(status) != EPERM)
			allowed++;
	}
	/* Some need a capability that this user may lack, or a kernel that has them. */
	ck_assert_int_ge(allowed, n * 2 / 3);
}
END_TEST

static void *nothing(void)
{
	return NULL;
}

/* All that the daemon still does; the line that fails, or 0. */
static void *live(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/notify"};
	int pair[2], fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	pthread_t thread;

#define OK(is_so)     \
	if (!(is_so)) \
	return (void *)(long)(__LINE__ % 250 + 1)
	OK(fd >= 0);
	OK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	OK(send(pair[0], "x", 1, 0) == 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	OK(fd >= 0);
	/* It reaches the kernel's look-up of the name. */
	OK(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) < 0 && errno == ENOENT);
	OK(eventfd(0, EFD_CLOEXEC) >= 0);
	OK(memfd_create("x", MFD_CLOEXEC) >= 0);
	OK(unlink("/nonexistent/socket") < 0 && errno == ENOENT);
	OK(pthread_create(&thread, NULL, in_thread, nothing) == 0);
	OK(pthread_join(thread, NULL) == 0);
	OK(syscall(SYS_pidfd_open, getpid(), 0) >= 0);
	OK(kill(getpid(), 0) == 0);
#undef OK
	return NULL;
}

START_TEST(what_the_daemon_does_goes_on)
{
	ck_assert_int_eq(in_sandbox(live, _i), 0);
}
END_TEST

/* As an assertion does, whose core is to be had. */
START_TEST(it_can_abort)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		if (sandbox_enter(false) < 0)
			_exit(1);
		abort();
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}
END_TEST

static pthread_barrier_t entered;

static void *wait_and_try(void *data)
{
	(void)data;
	pthread_barrier_wait(&entered);
	return try();
}

START_TEST(threads_that_were_there_before_are_in_it_too)
{
	pid_t child = fork();
	int status;

	attempt = &attempts[0];
	if (child == 0) {
		pthread_t thread;
		void *result;

		pthread_barrier_init(&entered, NULL, 2);
		pthread_create(&thread, NULL, wait_and_try, NULL);
		if (sandbox_enter(false) < 0)
			_exit(255);
		pthread_barrier_wait(&entered);
		pthread_join(thread, &result);
		_exit((int)(long)result);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), EPERM);
}
END_TEST

SUITE("sandbox", NULL, NULL)
{
	tcase_add_loop_test(tests, a_call_that_the_daemon_never_makes_is_refused, 0,
			    sizeof(attempts) / sizeof(attempts[0]));
	tcase_add_test(tests, the_same_calls_are_not_refused_outside_of_it);
	tcase_add_loop_test(tests, what_the_daemon_does_goes_on, false, true + 1);
	tcase_add_test(tests, it_can_abort);
	tcase_add_test(tests, threads_that_were_there_before_are_in_it_too);
}
