/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Eventfds: those of a device's interrupts, and any other. The kernel's trigger holds the eventfd,
 * so that a vector stays armed over the VMM's death. One that the session has is therefore left as
 * it is: setting it again would open a window in which an interrupt is lost. A new one is armed
 * before it is stored, so that every vector that the session has is armed.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "client/cpr.h"
#include "client/inventory.h"

static const char *const index_names[] = {
	[VFIO_PCI_INTX_IRQ_INDEX] = "intx", [VFIO_PCI_MSI_IRQ_INDEX] = "msi",
	[VFIO_PCI_MSIX_IRQ_INDEX] = "msix", [VFIO_PCI_ERR_IRQ_INDEX] = "err",
	[VFIO_PCI_REQ_IRQ_INDEX] = "req",
};

/* The three of which a device can use one at a time. */
static bool is_interrupt(int64_t index)
{
	return index == VFIO_PCI_INTX_IRQ_INDEX || index == VFIO_PCI_MSI_IRQ_INDEX ||
	       index == VFIO_PCI_MSIX_IRQ_INDEX;
}

/* Puts new eventfds into object where held (may be NULL) has none. Returns how many, or -errno. */
static int eventfds_create(struct object *object, const struct object *held, uint32_t first,
			   uint32_t count)
{
	int n = 0;

	for (uint32_t i = first; i < first + count; i++) {
		int fd;

		if (held && object_fd(held, i) >= 0)
			continue;
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0)
			return -errno;
		object_set_fd(object, i, fd);
		n++;
	}
	return n;
}

static int fail_eventfds(struct vfio_cpr *cpr, int error, const char *name)
{
	return cpr_fail(cpr, error, "cannot create the eventfds of %s: %s%s", name,
			g_strerror(-error),
			error == -EMFILE ? ": raise RLIMIT_NOFILE of this process" : "");
}

/*
 * Of a device
 */

/* VFIO_DEVICE_SET_IRQS for one run of vectors; fds NULL: takes them out again. */
static int set_irqs(int device, uint32_t index, uint32_t action, uint32_t first, uint32_t count,
		    const int *fds)
{
	size_t size = sizeof(struct vfio_irq_set) + count * sizeof(int32_t);
	g_autofree struct vfio_irq_set *set = g_malloc0(size);

	set->argsz = size;
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD |
		     (action == VFIO_CPR_IRQ_UNMASK ? VFIO_IRQ_SET_ACTION_UNMASK
						    : VFIO_IRQ_SET_ACTION_TRIGGER);
	set->index = index;
	set->start = first;
	set->count = count;
	if (fds)
		memcpy(set->data, fds, count * sizeof(int32_t));
	else
		memset(set->data, 0xff, count * sizeof(int32_t));
	return ioctl(device, VFIO_DEVICE_SET_IRQS, set) < 0 ? -errno : 0;
}

/* Arms (or, with disarm, disarms) every run below end. Returns where it failed, or end. */
static uint32_t set_runs(int device, const struct object *object, uint32_t end, bool disarm,
			 int *ret_error)
{
	uint32_t i = 0;

	while (i < end) {
		uint32_t first = i;
		int r;

		if (object->fds[i] < 0) {
			i++;
			continue;
		}
		while (i < end && object->fds[i] >= 0)
			i++;
		r = set_irqs(device, object->attributes.irq_index, object->attributes.irq_action,
			     first, i - first, disarm ? NULL : object->fds + first);
		if (r < 0 && !disarm) {
			*ret_error = r;
			return first;
		}
	}
	return end;
}

/* Arms the new vectors, then stores them. On failure those armed are disarmed again. */
static int irqs_arm(struct vfio_cpr_device *device, struct object **object, const char *what)
{
	struct vfio_cpr *cpr = device->cpr;
	int fd = object_fd(device->object, 0);
	uint32_t n = (*object)->n_fds;
	uint32_t armed;
	int r = 0;

	armed = set_runs(fd, *object, n, false, &r);
	if (r < 0)
		cpr_fail(cpr, r,
			 "cannot set the interrupts %s: %s: with a kernel or device that fixes the "
			 "number of vectors at the first call, ask for all of them at once",
			 what, g_strerror(-r));
	else
		r = inventory_store(cpr, object, 1);
	if (r < 0)
		set_runs(fd, *object, armed, true, NULL);
	return r;
}

/* Whether another of INTx, MSI and MSI-X is in use; its name, or NULL. */
static const char *other_index(struct vfio_cpr_device *device, uint32_t index)
{
	if (!is_interrupt(index))
		return NULL;
	for (uint32_t other = VFIO_PCI_INTX_IRQ_INDEX; other <= VFIO_PCI_MSIX_IRQ_INDEX; other++) {
		g_autofree char *name =
			g_strdup_printf("%s/%s", device->object->name, index_names[other]);

		if (other != index && inventory_find(device->cpr, OBJECT_EVENTFD, name))
			return index_names[other];
	}
	return NULL;
}

static int irqs_check(struct vfio_cpr_device *device, uint32_t index, uint32_t action,
		      uint32_t first, uint32_t count)
{
	struct vfio_cpr *cpr = device->cpr;
	const char *bdf = device->object->name;
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};
	const char *other;

	if (index >= G_N_ELEMENTS(index_names) ||
	    (action != VFIO_CPR_IRQ_TRIGGER && action != VFIO_CPR_IRQ_UNMASK) ||
	    (action == VFIO_CPR_IRQ_UNMASK && index != VFIO_PCI_INTX_IRQ_INDEX))
		return cpr_fail(
			cpr, -EINVAL,
			"device %s: no interrupt index %u with action %u; only INTx is unmasked",
			bdf, index, action);
	if (ioctl(object_fd(device->object, 0), VFIO_DEVICE_GET_IRQ_INFO, &info) < 0)
		return cpr_fail(cpr, -errno, "device %s: cannot ask for its %s interrupts: %s", bdf,
				index_names[index], g_strerror(errno));
	if (count == 0 || first > info.count || count > info.count - first)
		return cpr_fail(cpr, -EINVAL, "device %s has %u %s vectors, not %u from %u on", bdf,
				info.count, index_names[index], count, first);
	other = other_index(device, index);
	if (other)
		return cpr_fail(cpr, -EINVAL,
				"device %s uses %s: a device has one kind of interrupt at a time",
				bdf, other);
	return 0;
}

int vfio_cpr_device_irqs(struct vfio_cpr_device *device, uint32_t index, uint32_t action,
			 uint32_t first, uint32_t count, int *ret_fds)
{
	struct vfio_cpr *cpr = device->cpr;
	g_autofree char *name = NULL;
	auto_object fresh = NULL;
	struct object *held;
	int r;

	r = cpr_check(cpr);
	if (r == 0)
		r = irqs_check(device, index, action, first, count);
	if (r < 0)
		return r;
	name = g_strdup_printf("%s/%s%s", device->object->name, index_names[index],
			       action == VFIO_CPR_IRQ_UNMASK ? "-unmask" : "");
	held = inventory_find(cpr, OBJECT_EVENTFD, name);
	fresh = object_new(OBJECT_EVENTFD, name);
	fresh->attributes.device = g_strdup(device->object->name);
	fresh->attributes.irq_index = index;
	fresh->attributes.irq_action = action;
	r = eventfds_create(fresh, held, first, count);
	if (r < 0)
		return fail_eventfds(cpr, r, name);
	if (r > 0) {
		r = irqs_arm(device, &fresh, name);
		if (r < 0)
			return r;
		held = fresh;
		fresh = NULL;
	}
	memcpy(ret_fds, held->fds + first, count * sizeof(*ret_fds));
	return 0;
}

/*
 * Any other
 */

int vfio_cpr_eventfds_get(struct vfio_cpr *cpr, const char *name, uint32_t first, uint32_t count,
			  int *ret_fds, uint32_t *ret_restored)
{
	auto_object fresh = NULL;
	struct object *held;
	int created, r;

	r = cpr_check(cpr);
	if (r == 0)
		r = cpr_check_name(cpr, "eventfds", name);
	if (r < 0)
		return r;
	if (count == 0 || first >= OBJECT_MAX_FDS || count > OBJECT_MAX_FDS - first)
		return cpr_fail(cpr, -EINVAL, "eventfds %s: %u from %u on are not within 0..%d",
				name, count, first, OBJECT_MAX_FDS - 1);
	held = inventory_find(cpr, OBJECT_EVENTFD, name);
	if (held && held->attributes.device)
		return cpr_fail(
			cpr, -EINVAL,
			"eventfds %s are interrupts of device %s: use vfio_cpr_device_irqs()", name,
			held->attributes.device);
	fresh = object_new(OBJECT_EVENTFD, name);
	created = eventfds_create(fresh, held, first, count);
	if (created < 0)
		return fail_eventfds(cpr, created, name);
	if (created > 0) {
		r = inventory_store(cpr, &fresh, 1);
		if (r < 0)
			return r;
		held = fresh;
		fresh = NULL;
	}
	g_assert(held); /* if none was made, all were there */
	memcpy(ret_fds, held->fds + first, count * sizeof(*ret_fds));
	if (ret_restored)
		*ret_restored = count - created;
	return 0;
}

/*
 * Kick
 */

/* INTx is masked from its interrupt to its unmask: who died between has left it masked for ever. */
static void intx_unmask(struct vfio_cpr *cpr, const struct object *eventfds)
{
	struct object *device = inventory_find(cpr, OBJECT_DEVICE, eventfds->attributes.device);
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
	};

	if (device)
		(void)ioctl(object_fd(device, 0), VFIO_DEVICE_SET_IRQS, &set);
}

int vfio_cpr_kick(struct vfio_cpr *cpr)
{
	int n = 0;
	int r;

	r = cpr_check(cpr);
	if (r < 0)
		return r;
	for (guint i = 0; i < cpr->objects->len; i++) {
		struct object *object = cpr->objects->pdata[i];

		/* The ERR and REQ indices report events: signalling them would be a false alarm. */
		if (object->kind != OBJECT_EVENTFD || !object->attributes.device ||
		    object->attributes.irq_action != VFIO_CPR_IRQ_TRIGGER ||
		    !is_interrupt(object->attributes.irq_index))
			continue;
		for (uint32_t j = 0; j < object->n_fds; j++) {
			if (object->fds[j] < 0)
				continue;
			/* EAGAIN: the count is at its maximum, so the eventfd is readable. */
			(void)eventfd_write(object->fds[j], 1);
			n++;
		}
		if (object->attributes.irq_index == VFIO_PCI_INTX_IRQ_INDEX)
			intx_unmask(cpr, object);
	}
	return n;
}
