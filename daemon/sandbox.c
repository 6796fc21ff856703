/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon takes from itself: daemon/sandbox.h. A list of what is refused and not of what is
 * allowed: what the C library, GLib and libsystemd call differs from version to version, and a
 * daemon that fails at that holds nothing. The unit's SystemCallFilter= is a list of the other kind.
 */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

/* By number: a libseccomp that is older than a call has no name for it. */
static const int refused[] = {
	/* Other programs */
	SYS_execve,
	SYS_execveat,
#ifdef SYS_fork
	SYS_fork,
	SYS_vfork,
#endif
	/* Other processes */
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_process_madvise,
	SYS_process_mrelease,
	SYS_pidfd_getfd,
	SYS_pidfd_send_signal,
	SYS_tkill,
	SYS_rt_sigqueueinfo,
	SYS_rt_tgsigqueueinfo,
	SYS_move_pages,
	SYS_migrate_pages,
	/* Other sockets. What it accepts, and messages to systemd and its journal, need none of these. */
	SYS_connect,
	SYS_bind,
	SYS_listen,
/* Other files: it creates and changes none, and removes its own socket alone. */
#ifdef SYS_rename
	SYS_rename,
	SYS_link,
	SYS_symlink,
	SYS_mkdir,
	SYS_rmdir,
	SYS_mknod,
	SYS_chmod,
	SYS_chown,
	SYS_lchown,
	SYS_creat,
#endif
	SYS_renameat2,
	SYS_linkat,
	SYS_symlinkat,
	SYS_mkdirat,
	SYS_mknodat,
	SYS_fchmodat,
	SYS_fchownat,
	SYS_truncate,
	SYS_setxattr,
	SYS_lsetxattr,
	SYS_open_by_handle_at,
	/* Other namespaces, mounts and roots */
	SYS_unshare,
	SYS_setns,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_move_mount,
	SYS_open_tree,
	SYS_open_tree_attr,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
	SYS_mount_setattr,
	/* What holes in the kernel are reached by, and what hides from it */
	SYS_bpf,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	SYS_perf_event_open,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_memfd_secret,
	SYS_fanotify_init,
	SYS_personality,
	/* The host itself, for a daemon that was started as root */
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
	SYS_kexec_file_load,
	SYS_reboot,
	SYS_swapon,
	SYS_swapoff,
	SYS_acct,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_sethostname,
	SYS_setdomainname,
#ifdef SYS_iopl
	SYS_iopl,
	SYS_ioperm,
	SYS_modify_ldt,
#endif
};

/* Their arguments are in memory, which a filter cannot see. Who calls them knows the older ones. */
static const int unknown[] = {SYS_clone3, SYS_openat2};

#define ERROR(number) SCMP_ACT_ERRNO(number)

static int refuse(scmp_filter_ctx filter, const int *calls, size_t n, int error)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = seccomp_rule_add(filter, ERROR(error), calls[i], 0);
	return r;
}

static int refuse_if(scmp_filter_ctx filter, int call, struct scmp_arg_cmp condition)
{
	return seccomp_rule_add_array(filter, ERROR(EPERM), call, 1, &condition);
}

/* Threads, and no processes. The leak sanitizer stops all threads by a child that traces them. */
static int refuse_processes(scmp_filter_ctx filter)
{
	int r = refuse(filter, (int[]){SYS_ptrace}, 1, EPERM);

	if (r < 0)
		return r;
	return refuse_if(filter, SYS_clone, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
}

/* Unix sockets alone; and signals to nobody but itself, such as abort()'s. */
static int refuse_others(scmp_filter_ctx filter)
{
	static const int sockets[] = {SYS_socket, SYS_socketpair},
			 signals[] = {SYS_kill, SYS_tgkill};
	int r = 0;

	for (size_t i = 0; i < 2 && r == 0; i++) {
		r = refuse_if(filter, sockets[i], SCMP_A0(SCMP_CMP_NE, AF_UNIX, 0));
		if (r == 0)
			r = refuse_if(filter, signals[i], SCMP_A0(SCMP_CMP_NE, getpid(), 0));
	}
	return r;
}

/* Of a build by gcc or clang that counts which lines are run, and writes the counts at its end. */
extern void __gcov_init(void *) __attribute__((weak));
extern int __llvm_profile_runtime __attribute__((weak));

static bool counts_lines(void)
{
	return __gcov_init || &__llvm_profile_runtime;
}

/* Files are opened to be read, if at all. */
static int refuse_writing(scmp_filter_ctx filter)
{
	static const struct {
		scmp_datum_t mask, flags;
	} writing[] = {{O_ACCMODE, O_WRONLY},
		       {O_ACCMODE, O_RDWR},
		       {O_ACCMODE, O_ACCMODE},
		       {O_CREAT, O_CREAT},
		       {O_TRUNC, O_TRUNC}};
	int r = 0;

	for (size_t i = 0; i < sizeof(writing) / sizeof(writing[0]) && r == 0; i++) {
		scmp_datum_t mask = writing[i].mask, flags = writing[i].flags;

		r = refuse_if(filter, SYS_openat, SCMP_A2(SCMP_CMP_MASKED_EQ, mask, flags));
#ifdef SYS_open
		if (r == 0)
			r = refuse_if(filter, SYS_open, SCMP_A1(SCMP_CMP_MASKED_EQ, mask, flags));
#endif
	}
	return r;
}

static int set_attributes(scmp_filter_ctx filter)
{
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	/* A call for another architecture than this one's; the default would kill the thread. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, ERROR(ENOSYS));
	/* All its code is its own, so that no speculation has to be made slower for it (Linux 4.17). */
	if (r == 0)
		seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
	return r;
}

int sandbox_enter(bool leaks_are_sought)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r;

	if (!filter)
		return -ENOMEM;
	r = set_attributes(filter);
	if (r == 0)
		r = refuse(filter, refused, sizeof(refused) / sizeof(refused[0]), EPERM);
	if (r == 0)
		r = refuse(filter, unknown, sizeof(unknown) / sizeof(unknown[0]), ENOSYS);
	if (r == 0)
		r = refuse_others(filter);
	if (r == 0 && !counts_lines())
		r = refuse_writing(filter);
	if (r == 0 && !leaks_are_sought)
		r = refuse_processes(filter);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}
