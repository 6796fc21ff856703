/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvfio-cpr: keep VFIO devices, guest memory and interrupts over the restart of their VMM.
 *
 * A VMM (or a user-space driver) opens its devices, creates its memory and maps its DMA through
 * this library. vfio-cprd, a privileged daemon, holds every file descriptor that matters. When the
 * VMM restarts or is killed, its successor makes the very same calls and is given what is there:
 * the device was never reset, its DMA and its interrupts went on. One program for both starts:
 *
 *	vfio_cpr_open() -> vfio_cpr_attach()
 *	  -> vfio_cpr_space_get(), vfio_cpr_device_get()	opened now, or handed back
 *	  -> vfio_cpr_memory_get(), vfio_cpr_memory_map()	created now, or handed back
 *	  -> vfio_cpr_dma_map(), vfio_cpr_device_irqs()		done now, or found in place
 *	-> vfio_cpr_commit() -> run
 *
 * Conventions
 *  - Functions return 0 (or a count) on success and a negative errno on failure. Every failure
 *    leaves a sentence that says what failed, on which object and what to do:
 *    vfio_cpr_strerror(). Besides what a function lists, each that talks to the daemon may return
 *    -ETIMEDOUT (no daemon for the time set by vfio_cpr_set_timeout()), -EPROTO (the daemon
 *    answered what this library does not understand), -ENOMEM and -EMFILE.
 *  - Outputs are named ret_ and come last; they are untouched on failure, but for the handle of
 *    vfio_cpr_open().
 *  - A file descriptor given to the library is consumed on success only. One that the library
 *    returns stays the library's: it is valid until its object is removed or the handle closed;
 *    dup it to keep it longer. All are close-on-exec.
 *  - A handle, and all that was got from it, belongs to one thread at a time and to the process
 *    that opened it: after fork(), the child may only vfio_cpr_close() it (-ECHILD otherwise).
 *  - No stdio, no signals, no fork, no global state.
 *  - Names of objects are UTF-8, 1 to 255 bytes, no control characters; new ones also without
 *    what is not seen or changes how others are shown (bidi controls, zero width: -EINVAL).
 *
 * Kernel: Linux 6.0 for type1 containers, 6.14 for iommufd. x86-64 and arm64; not s390, where a
 * held device keeps the old struct kvm in use. Wire protocol: vfio-cpr-protocol(7).
 */
#ifndef VFIO_CPR_H
#define VFIO_CPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VFIO_CPR_SOCKET "/run/vfio-cprd/io.vfiocpr"

/* The version of this header. The number is 10000 * major + 100 * minor + patch, for #if. */
#define VFIO_CPR_VERSION	"0.3.0"
#define VFIO_CPR_VERSION_NUMBER 300

/* The version of the library that the program runs with, in the form of VFIO_CPR_VERSION. Static. */
const char *vfio_cpr_version(void);

struct vfio_cpr;	/* a connection to the daemon, and the session attached over it */
struct vfio_cpr_space;	/* a DMA address space: a type1 container, or one IOAS of an iommufd */
struct vfio_cpr_device; /* a PCI device behind VFIO */
struct vfio_cpr_memory; /* memory that a new process can map again: a memfd, tmpfs, hugetlbfs file */

/*
 * Connection
 */

/* Go on without the daemon if there is none: every call works, nothing is held. */
#define VFIO_CPR_OPEN_UNPROTECTED (1U << 0)

/* If there is no daemon now, the first call waits for it, as vfio_cpr_set_timeout() says. */
#define VFIO_CPR_OPEN_WAIT (1U << 1)

/*
 * Connects to the daemon at the unix socket path (NULL: the value of $VFIO_CPR_SOCKET, or if that is
 * not set or empty, or in a program that is setuid, setgid or has file capabilities,
 * VFIO_CPR_SOCKET). With VFIO_CPR_OPEN_UNPROTECTED an absent daemon (no socket, or nobody listens)
 * is not an error; vfio_cpr_is_protected() tells.
 *
 * *ret_cpr is set on success and, so that vfio_cpr_strerror() can tell why, on every failure but
 * -ENOMEM and -EINVAL of flags: close it in both cases.
 *
 * -EINVAL: unknown flags, or both; an empty path. -ENOENT, -ECONNREFUSED: no daemon. -EACCES: no access to the
 * socket. -EAGAIN: for 10 seconds it let nobody in; not with VFIO_CPR_OPEN_WAIT. It sleeps meanwhile,
 * as does any call that connects anew, within vfio_cpr_set_timeout(), but at least for a second.
 */
int vfio_cpr_open(const char *path, uint32_t flags, struct vfio_cpr **ret_cpr);

/*
 * Frees the handle, what was got from it, and this process's copies of all its fds; memory mapped
 * by vfio_cpr_memory_map() is unmapped. The session stays with the daemon, and with this process
 * as its holder until it exits. NULL is fine. Never fails.
 */
void vfio_cpr_close(struct vfio_cpr *cpr);

/* The sentence of the last failure on this handle ("" if none). Valid until its next call. */
const char *vfio_cpr_strerror(const struct vfio_cpr *cpr);

/* Whether a daemon holds what this handle stores; false only after an unprotected open. */
bool vfio_cpr_is_protected(const struct vfio_cpr *cpr);

/*
 * How long, in milliseconds, a call waits for a daemon that went away (10,000 at first; 0: not at
 * all). Within that time a lost connection is made again, the session resumed, and a call that was
 * not acknowledged repeated: the caller sees none of it.
 */
void vfio_cpr_set_timeout(struct vfio_cpr *cpr, uint32_t msec);

/*
 * Session
 */

enum vfio_cpr_start {
	VFIO_CPR_START_NEW,	/* cold start: the session is new and empty */
	VFIO_CPR_START_CLAIMED, /* restart: everything the predecessor had is here */
	VFIO_CPR_START_RESUMED, /* this same process had it already */
};

/*
 * Makes the session name (1 to 64 of [A-Za-z0-9:._@-]), or claims it if its holder has died. In a
 * claimed session all fds are in this process when the call returns. Once for each handle.
 *
 * -EBUSY: its holder lives (the sentence names it), or another claimed it first. -EINVAL: a bad
 * name, or attached already. -EDQUOT: too many sessions.
 */
int vfio_cpr_attach(struct vfio_cpr *cpr, const char *name, enum vfio_cpr_start *ret_start);

/*
 * Ends the start: restores the DMA mappings of every space that vfio_cpr_dma_restore() has not,
 * and tells the daemon that the session runs. Harmless after a cold start, and when repeated.
 *
 * Errors: as vfio_cpr_dma_restore().
 */
int vfio_cpr_commit(struct vfio_cpr *cpr);

/*
 * Ends the session: the daemon closes everything it holds of it. The kernel resets a device with
 * the last close, which this process's own fds still prevent; vfio_cpr_close() next. Returns when
 * the daemon has closed.
 */
int vfio_cpr_release(struct vfio_cpr *cpr);

/*
 * Calls fn for each reason why this session could not be handed over now (a kernel feature that is
 * missing, memory that can shrink, ...), with the object's name and a sentence. fn returns 0 to go
 * on; else its value is returned. Returns the number of blockers. Changes nothing: it never asks
 * the kernel in a way that moves an ownership.
 */
int vfio_cpr_blockers(struct vfio_cpr *cpr,
		      int (*fn)(const char *object, const char *reason, void *userdata),
		      void *userdata);

/*
 * Address spaces and devices
 */

enum vfio_cpr_backend {
	VFIO_CPR_BACKEND_AUTO,	  /* iommufd where kernel and device have it, else type1 */
	VFIO_CPR_BACKEND_TYPE1,	  /* /dev/vfio/vfio and groups. Linux 6.0 */
	VFIO_CPR_BACKEND_IOMMUFD, /* /dev/iommu and device cdevs. Linux 6.14 */
};

/*
 * Gets the address space name of the session, or makes it: a type1v2 container, or an IOAS (all
 * IOAS of a session share one iommufd). In a claimed session the backend must be as before, or
 * AUTO.
 *
 * -ENODEV, -ENOENT, -EACCES: the kernel's /dev node is missing or closed to this process.
 * -EOPNOTSUPP: the kernel lacks IOMMU_IOAS_CHANGE_PROCESS (iommufd), or /dev/vfio/vfio is iommufd's
 * imitation (type1). -EINVAL: a bad name, or the other backend.
 */
int vfio_cpr_space_get(struct vfio_cpr *cpr, const char *name, enum vfio_cpr_backend backend,
		       struct vfio_cpr_space **ret_space);

/* The backend in use: TYPE1 or IOMMUFD, never AUTO. */
enum vfio_cpr_backend vfio_cpr_space_backend(const struct vfio_cpr_space *space);

/* The container (type1) or iommufd; the library's. For ioctls other than those wrapped here. */
int vfio_cpr_space_fd(const struct vfio_cpr_space *space);

/* The kernel's id of the IOAS; 0 with type1. */
uint32_t vfio_cpr_space_ioas_id(const struct vfio_cpr_space *space);

/*
 * Gets the PCI device bdf ("0000:3b:00.0") into the space, or opens it: the group joins the
 * container, or the cdev is bound and attached to the IOAS. It must be bound to vfio-pci or another
 * VFIO driver. A device that was handed back is as its last VMM left it: do not reset it, do not
 * set its interrupts up again, do not size its BARs.
 *
 * -ENODEV: no such device, or not bound to a VFIO driver. -EBUSY: its group is open elsewhere, or
 * its DMA addresses are being restored. -EACCES: no access to its node. -EOPNOTSUPP: type1 without
 * VFIO_UPDATE_VADDR: the kernel is too old, or an mdev is in the container. -EINVAL: it belongs to
 * another space of this session.
 */
int vfio_cpr_device_get(struct vfio_cpr_space *space, const char *bdf,
			struct vfio_cpr_device **ret_device);

/* The VFIO device fd; the library's. */
int vfio_cpr_device_fd(const struct vfio_cpr_device *device);

/* Whether it was handed back (true) or opened by this process (false). */
bool vfio_cpr_device_is_restored(const struct vfio_cpr_device *device);

/* The kernel's ids of the device with iommufd; both 0 with type1. */
void vfio_cpr_device_ids(const struct vfio_cpr_device *device, uint32_t *ret_devid,
			 uint32_t *ret_hwpt_id);

/*
 * Memory
 */

/* Huge pages of the default size (MFD_HUGETLB). */
#define VFIO_CPR_MEMORY_HUGETLB (1U << 0)

/*
 * Gets the memory name, or creates it: a memfd of size bytes, sealed so that it can neither shrink
 * nor grow. In a claimed session its contents are as the predecessor and its devices left them.
 *
 * -EINVAL: size is 0, no multiple of the page size, or not that of the memory held; unknown flags.
 */
int vfio_cpr_memory_get(struct vfio_cpr *cpr, const char *name, uint64_t size, uint32_t flags,
			struct vfio_cpr_memory **ret_memory);

/*
 * Puts memory of the VMM's own into the session: a memfd, or a file of tmpfs or hugetlbfs. fd is
 * consumed. A memfd is sealed against shrinking.
 *
 * -EEXIST: the session has that name with another file. -EINVAL: not such a file, or not opened
 * for reading and writing.
 */
int vfio_cpr_memory_import(struct vfio_cpr *cpr, const char *name, int fd,
			   struct vfio_cpr_memory **ret_memory);

/* Finds memory of the session by name, whatever its size. -ENOENT: there is none. */
int vfio_cpr_memory_find(struct vfio_cpr *cpr, const char *name,
			 struct vfio_cpr_memory **ret_memory);

int vfio_cpr_memory_fd(const struct vfio_cpr_memory *memory);	     /* the library's */
uint64_t vfio_cpr_memory_size(const struct vfio_cpr_memory *memory); /* bytes */
bool vfio_cpr_memory_is_restored(const struct vfio_cpr_memory *memory);

/*
 * Maps the whole memory MAP_SHARED, read and write, once: the same address is returned each time.
 * It stays mapped until the handle is closed.
 */
int vfio_cpr_memory_map(struct vfio_cpr_memory *memory, void **ret_addr);

/*
 * The VMM has mapped the memory itself, whole, at addr: use that. Verified in /proc/self/maps over
 * its whole length (same inode, same offsets, MAP_SHARED), since the kernel checks nothing of it.
 *
 * -EINVAL: that is not a shared mapping of this memory. -EEXIST: another mapping is in use.
 */
int vfio_cpr_memory_set_addr(struct vfio_cpr_memory *memory, void *addr);

/*
 * DMA
 */

#define VFIO_CPR_DMA_READ  (1U << 0) /* the device may read */
#define VFIO_CPR_DMA_WRITE (1U << 1) /* the device may write */

/*
 * Lets the devices of the space reach size bytes of memory from offset on at address iova. All
 * three in bytes, multiples of the page size. In a claimed session the same mapping may be there
 * already: it is then restored, and that is success.
 *
 * -EEXIST: another mapping overlaps it. -ENODEV: a type1 space has no device yet, and so no IOMMU.
 * -ENOSPC: too many mappings (65,535 in a container, dma_entry_limit). -ENOMEM: over
 * RLIMIT_MEMLOCK. -EINVAL: not aligned, outside of the memory, or no prot. -ERANGE: the IOMMU
 * cannot reach that iova.
 */
int vfio_cpr_dma_map(struct vfio_cpr_space *space, uint64_t iova, struct vfio_cpr_memory *memory,
		     uint64_t offset, uint64_t size, uint32_t prot);

/*
 * The same for size bytes from offset on of a region (a BAR, VFIO_PCI_BAR0_REGION_INDEX ...) of a
 * device, so that others of the space can do peer-to-peer DMA. type1 only.
 *
 * -EOPNOTSUPP: iommufd, which cannot hand such a mapping over; or the region cannot be mapped.
 */
int vfio_cpr_dma_map_bar(struct vfio_cpr_space *space, uint64_t iova,
			 struct vfio_cpr_device *device, uint32_t region, uint64_t offset,
			 uint64_t size, uint32_t prot);

/* Ends exactly one mapping. -ENOENT: there is none of that iova and size. */
int vfio_cpr_dma_unmap(struct vfio_cpr_space *space, uint64_t iova, uint64_t size);

/*
 * Gives every mapping of the space to this process: VFIO_DMA_MAP_FLAG_VADDR for each (type1), or
 * one IOMMU_IOAS_CHANGE_PROCESS (iommufd). Memory that is not mapped yet is mapped. A mapping whose
 * ioctl the predecessor did not live to see is kept if the kernel has it; an unmap it did not live
 * to see is finished. DMA goes on all the while. Nothing to do in a new session.
 *
 * -ENOMEM: over RLIMIT_MEMLOCK. -EINVAL: the kernel's mappings are not those of the table.
 */
int vfio_cpr_dma_restore(struct vfio_cpr_space *space);

/*
 * Calls fn for each mapping of the space: object is the memory's name or the device's bdf. fn
 * returns 0 to go on; else its value is returned. Returns the number of mappings.
 */
int vfio_cpr_dma_for_each(struct vfio_cpr_space *space,
			  int (*fn)(uint64_t iova, uint64_t size, const char *object,
				    uint64_t offset, uint32_t prot, void *userdata),
			  void *userdata);

/*
 * Interrupts
 */

#define VFIO_CPR_IRQ_TRIGGER 0U /* the eventfds are signalled by the device */
#define VFIO_CPR_IRQ_UNMASK  1U /* writing to the eventfd unmasks INTx */

/*
 * Gets count eventfds for the vectors from first on of an interrupt index (VFIO_PCI_MSIX_IRQ_INDEX
 * ...) of the device. Vectors that the session has are handed back as they are: no ioctl, their
 * counts kept. The others are created and set by VFIO_DEVICE_SET_IRQS. ret_fds has room for count.
 * Once set, they stay so for the session's life: they cannot be switched off again.
 *
 * -EINVAL: the device has no such vectors, or another index is in use.
 */
int vfio_cpr_device_irqs(struct vfio_cpr_device *device, uint32_t index, uint32_t action,
			 uint32_t first, uint32_t count, int *ret_fds);

/*
 * Gets count eventfds of a name, numbered from first on; those which the session lacks are created
 * (EFD_CLOEXEC | EFD_NONBLOCK, count 0). *ret_restored: how many were handed back; may be NULL.
 */
int vfio_cpr_eventfds_get(struct vfio_cpr *cpr, const char *name, uint32_t first, uint32_t count,
			  int *ret_fds, uint32_t *ret_restored);

/*
 * After an unplanned death, once the new irqfds or handlers are in place: writes 1 to every
 * eventfd of VFIO_CPR_IRQ_TRIGGER and unmasks INTx, so that an interrupt which died half way is
 * seen. A spurious interrupt is harmless to a correct driver. Returns how many were kicked.
 */
int vfio_cpr_kick(struct vfio_cpr *cpr);

/*
 * KVM: the calls that a new VM needs. They work on the VMM's own KVM fds, which the daemon never
 * holds: held, they would keep the old VM's irqfds and make the new one's fail with EBUSY.
 */

/*
 * Routes the eventfd to gsi of the VM; resample: an eventfd of VFIO_CPR_IRQ_UNMASK, or -1. A
 * pending count is injected at once. -EBUSY: an irqfd of another VM has that eventfd.
 */
int vfio_cpr_kvm_irqfd_assign(struct vfio_cpr *cpr, int vm_fd, int eventfd, uint32_t gsi,
			      int resample);
int vfio_cpr_kvm_irqfd_deassign(struct vfio_cpr *cpr, int vm_fd, int eventfd, uint32_t gsi);

/* Tells KVM of the device (KVM_DEV_VFIO_FILE_ADD). Repeating it is success. */
int vfio_cpr_kvm_add_device(struct vfio_cpr_device *device, int kvm_vfio_fd);

/*
 * State of the VMM's own
 */

/* Stores size bytes (at most 16 MiB) under name, in place of what was there, all or nothing. */
int vfio_cpr_state_put(struct vfio_cpr *cpr, const char *name, const void *data, size_t size);

/* *ret_data is the caller's to free(). -ENOENT: nothing of that name. */
int vfio_cpr_state_get(struct vfio_cpr *cpr, const char *name, void **ret_data, size_t *ret_size);

/* -ENOENT: nothing of that name. */
int vfio_cpr_state_remove(struct vfio_cpr *cpr, const char *name);

/*
 * PCI configuration: the first 256 bytes, where MSI and BARs live.
 */

#define VFIO_CPR_PCI_CONFIG_SIZE 256

/* Reads the device's configuration space and stores it as state "BDF/config". */
int vfio_cpr_pci_snapshot(struct vfio_cpr_device *device);

/*
 * Compares the device with its snapshot: identity, BARs and the MSI and MSI-X capabilities must be
 * alike; status bits and the like may differ. *ret_offset: the first difference that matters, or
 * -1. A BAR or a control bit that changed means that the device was reset meanwhile.
 *
 * -ENOENT: no snapshot.
 */
int vfio_cpr_pci_compare(struct vfio_cpr_device *device, int *ret_offset);

/*
 * Event loops: everything above is synchronous. To hear of what happens to the session, poll.
 */

enum vfio_cpr_event {
	VFIO_CPR_EVENT_NONE,	     /* nothing more to tell */
	VFIO_CPR_EVENT_RELEASED,     /* the session was ended by its operator: nothing is held */
	VFIO_CPR_EVENT_DISCONNECTED, /* the daemon is away; the next call, or this, reconnects */
	VFIO_CPR_EVENT_CONNECTED,    /* it is back, and holds the session again */
};

/* An fd for poll, epoll or glib, the same for the handle's life; the library's. */
int vfio_cpr_get_fd(struct vfio_cpr *cpr);

/* The poll events to wait for, now POLLIN. */
int vfio_cpr_get_events(struct vfio_cpr *cpr);

/* Handles what is there without blocking. Call it until *ret_event is VFIO_CPR_EVENT_NONE. */
int vfio_cpr_process(struct vfio_cpr *cpr, enum vfio_cpr_event *ret_event);

#ifdef __cplusplus
}
#endif

#endif
