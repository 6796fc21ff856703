/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the facts about a host mean for handing devices over. A blocker names the backends that it
 * rules out, so that a host with one good backend is not called bad for the other.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cprctl/hostcheck.h"

static void finding_free(gpointer data)
{
	struct finding *finding = data;

	g_free(finding->subject);
	g_free(finding->detail);
	g_free(finding->remedy);
	g_free(finding);
}

Findings *findings_new(void)
{
	return g_ptr_array_new_with_free_func(finding_free);
}

void findings_add(Findings *findings, const char *check, const char *subject,
		  enum check_status status, unsigned int blocks, const char *remedy,
		  const char *format, ...)
{
	struct finding *finding = g_new0(struct finding, 1);
	va_list args;

	finding->check = check;
	finding->subject = g_strdup(subject);
	finding->status = status;
	finding->blocks = blocks;
	finding->remedy = g_strdup(remedy);
	va_start(args, format);
	finding->detail = g_strdup_vprintf(format, args);
	va_end(args);
	g_ptr_array_add(findings, finding);
}

struct verdict findings_settle(Findings *findings, size_t first, struct verdict before)
{
	unsigned int ruled_out = 0, doubt = before.doubt;
	struct verdict after;

	for (size_t i = first; i < findings->len; i++) {
		const struct finding *finding = findings->pdata[i];

		if (finding->status == CHECK_UNKNOWN)
			doubt |= finding->blocks;
		else
			ruled_out |= finding->blocks;
	}
	after.good = before.good & ~ruled_out & ~doubt;
	after.doubt = (before.good | before.doubt) & ~ruled_out & doubt;

	for (size_t i = first; (after.good | after.doubt) && i < findings->len; i++) {
		struct finding *finding = findings->pdata[i];

		if (finding->status == CHECK_BLOCKER)
			finding->status = CHECK_WARNING;
	}
	return after;
}

void check_kernel(Findings *findings, const char *release, const char *machine)
{
	unsigned int major = 0, minor = 0;

	if (g_str_has_prefix(machine, "s390"))
		findings_add(findings, "architecture", machine, CHECK_BLOCKER, BACKEND_ALL,
			     "Use x86-64 or arm64",
			     "on s390 a device that is held keeps using the KVM of the VMM that "
			     "died");

	if (sscanf(release, "%u.%u", &major, &minor) != 2)
		findings_add(findings, "kernel", release, CHECK_WARNING, 0, NULL,
			     "the version is not understood; type1 needs Linux 6.0, iommufd 6.14");
	else if (major < 6)
		/* Before 6.0, VFIO_UNMAP_DMA of another process does nothing and says 0. */
		findings_add(findings, "kernel", release, CHECK_BLOCKER, BACKEND_TYPE1,
			     "Boot Linux 6.0 or later (6.14 for iommufd)",
			     "before Linux 6.0 the daemon cannot invalidate the DMA addresses of "
			     "a dead VMM");
	else if (major == 6 && (minor == 0 || minor == 2))
		findings_add(findings, "kernel", release, CHECK_WARNING, 0,
			     "Boot Linux 6.1 (stable), or 6.3 or later",
			     "type1 works, but this version does not move the accounting of "
			     "locked memory to the successor");
	else if (major == 6 && minor < 14)
		findings_add(findings, "kernel", release, CHECK_OK, 0, NULL,
			     "new enough for type1; iommufd needs Linux 6.14");
	else
		findings_add(findings, "kernel", release, CHECK_OK, 0, NULL,
			     "new enough for type1 and iommufd");
}

void check_iommu(Findings *findings, const char *root)
{
	g_autofree char *iommus_path = g_strconcat(root, "/sys/class/iommu", NULL);
	g_autofree char *groups_path = g_strconcat(root, "/sys/kernel/iommu_groups", NULL);
	g_autofree char *noiommu_path =
		g_strconcat(root, "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", NULL);
	g_autofree char *kernel_path = g_strconcat(root, "/sys/kernel", NULL);
	int error = 0;
	g_autoptr(GPtrArray) iommus = sysfs_list(iommus_path, NULL);
	g_autoptr(GPtrArray) groups = sysfs_list(groups_path, &error);
	g_autofree char *noiommu = sysfs_read(noiommu_path, NULL);
	bool unsafe = noiommu && *noiommu == 'Y';

	/* Some platforms' IOMMUs have no class device: the groups are what counts. */
	if (error || !sysfs_exists(kernel_path, NULL))
		findings_add(findings, "iommu", "/sys/kernel/iommu_groups", CHECK_UNKNOWN,
			     BACKEND_ALL, "Run this on the host itself, as root, with /sys mounted",
			     "was not looked into: %s",
			     error ? g_strerror(-error) : "there is no sysfs here");
	else if (groups->len)
		findings_add(findings, "iommu", "/sys/kernel/iommu_groups", CHECK_OK, 0, NULL,
			     "%u IOMMU groups, %u IOMMUs", groups->len, iommus->len);
	else
		findings_add(findings, "iommu", "/sys/kernel/iommu_groups", CHECK_BLOCKER,
			     unsafe ? BACKEND_TYPE1 : BACKEND_ALL,
			     "Switch VT-d, AMD-Vi or the SMMU on in the firmware and boot with "
			     "intel_iommu=on if it is Intel's; in a VM, give it a virtual IOMMU",
			     "there is %s: VFIO cannot map memory for devices",
			     iommus->len ? "an IOMMU, but no device is in an IOMMU group"
					 : "no IOMMU in use");
	if (unsafe)
		findings_add(findings, "noiommu", "vfio.enable_unsafe_noiommu_mode", CHECK_WARNING,
			     0, "Leave it off but for tests",
			     "devices may be used without an IOMMU: they reach all memory, and "
			     "only iommufd can hand them over");
}

void check_driver(Findings *findings, const char *root)
{
	g_autofree char *path = g_strconcat(root, "/sys/bus/pci/drivers/vfio-pci", NULL);

	if (sysfs_exists(path, NULL))
		findings_add(findings, "driver", "vfio-pci", CHECK_OK, 0, NULL, "is loaded");
	else
		findings_add(findings, "driver", "vfio-pci", CHECK_WARNING, 0, "modprobe vfio-pci",
			     "is not loaded: PCI devices without a VFIO driver of their own need "
			     "it");
}

/* What the kernel may not be asked through is no fault of the kernel. */
static void cannot_open(Findings *findings, const char *check, const char *node, int error,
			unsigned int backend, const char *load)
{
	if (error == ENOENT || error == ENXIO || error == ENODEV)
		findings_add(findings, check, node, CHECK_BLOCKER, backend, load,
			     "cannot be opened: %s", g_strerror(error));
	else if (error == EACCES || error == EPERM)
		findings_add(findings, check, node, CHECK_UNKNOWN, backend,
			     "Run this as root; 'check --user USER' tells whether a VMM's user may "
			     "open the node",
			     "was not looked into: this user may not open it (%s)",
			     g_strerror(error));
	else
		findings_add(findings, check, node, CHECK_UNKNOWN, backend,
			     "Mend that, and try again", "was not looked into: %s",
			     g_strerror(error));
}

void check_type1(Findings *findings, const struct type1_facts *facts)
{
	const char *node = "/dev/vfio/vfio";

	if (facts->error)
		cannot_open(findings, "type1", node, facts->error, BACKEND_TYPE1,
			    "modprobe vfio; modprobe vfio_iommu_type1. If there is no such module, "
			    "the kernel lacks CONFIG_VFIO_CONTAINER");
	else if (!facts->is_vfio)
		findings_add(findings, "type1", node, CHECK_BLOCKER, BACKEND_TYPE1,
			     "Look what that node is: it should be character device 10:196",
			     "is not VFIO's container");
	else if (facts->is_iommufd)
		/* It answers like a container, but has neither UPDATE_VADDR nor a change of process
		 * for what is mapped through it: Documentation/userspace-api/iommufd.rst. */
		findings_add(findings, "type1", node, CHECK_BLOCKER, BACKEND_TYPE1,
			     "Let VMMs use /dev/iommu itself, or a kernel with "
			     "CONFIG_VFIO_CONTAINER and without CONFIG_IOMMUFD_VFIO_CONTAINER",
			     "is iommufd's imitation of a container: the ownership of its DMA "
			     "mappings cannot be moved");
	else if (!facts->type1v2)
		findings_add(findings, "type1", node, CHECK_BLOCKER, BACKEND_TYPE1,
			     "modprobe vfio_iommu_type1", "has no type1v2 IOMMU driver");
	else if (!facts->unmap_all)
		findings_add(findings, "type1", node, CHECK_BLOCKER, BACKEND_TYPE1,
			     "Boot Linux 6.0 or later",
			     "does not know VFIO_UNMAP_ALL, and so not VFIO_UPDATE_VADDR, which "
			     "came with it");
	else
		findings_add(findings, "type1", node, CHECK_OK, 0, NULL,
			     "type1v2 with VFIO_UNMAP_ALL; VFIO_UPDATE_VADDR is asked when a "
			     "device is attached, the kernel does not tell before");
}

/* Whether VFIO was built with device cdevs; true if it is not loaded, and so cannot be told. */
static bool has_cdevs(const char *root)
{
	g_autofree char *devices_path = g_strconcat(root, "/proc/devices", NULL);
	g_autofree char *class_path = g_strconcat(root, "/sys/class/vfio-dev", NULL);
	g_autofree char *devices = sysfs_read(devices_path, NULL);

	return !devices || !sysfs_exists(class_path, NULL) || strstr(devices, " vfio-dev");
}

void check_iommufd(Findings *findings, const char *root, const struct iommufd_facts *facts)
{
	const char *node = "/dev/iommu";

	if (facts->error)
		cannot_open(findings, "iommufd", node, facts->error, BACKEND_IOMMUFD,
			    "modprobe iommufd. If there is no such module, the kernel lacks "
			    "CONFIG_IOMMUFD");
	else if (facts->change_process == ENOTTY)
		findings_add(findings, "iommufd", node, CHECK_BLOCKER, BACKEND_IOMMUFD,
			     "Boot Linux 6.14 or later, or use type1",
			     "does not know IOMMU_IOAS_CHANGE_PROCESS: a dead VMM would be "
			     "charged for its pinned memory for ever");
	else if (facts->change_process)
		findings_add(findings, "iommufd", node, CHECK_BLOCKER, BACKEND_IOMMUFD, NULL,
			     "refuses IOMMU_IOAS_CHANGE_PROCESS: %s",
			     g_strerror(facts->change_process));
	else if (!has_cdevs(root))
		findings_add(findings, "iommufd", node, CHECK_BLOCKER, BACKEND_IOMMUFD,
			     "Use a kernel with CONFIG_VFIO_DEVICE_CDEV, or use type1",
			     "can change its process, but VFIO was built without device cdevs");
	else
		findings_add(findings, "iommufd", node, CHECK_OK, 0, NULL,
			     "with IOMMU_IOAS_CHANGE_PROCESS");
}

void check_process(Findings *findings, const struct process_facts *facts)
{
	if (facts->peer_pidfd)
		findings_add(findings, "pidfd", "SO_PEERPIDFD", CHECK_OK, 0, NULL,
			     "the daemon knows who connects, and when it dies");
	else
		findings_add(findings, "pidfd", "SO_PEERPIDFD", CHECK_WARNING, 0,
			     "Boot Linux 6.5 or later",
			     "is missing: the daemon looks a peer up by its pid, which could be "
			     "another's if the peer died as it connected");

	if (facts->dupfd_query || facts->kcmp)
		findings_add(findings, "same-file", facts->dupfd_query ? "F_DUPFD_QUERY" : "kcmp",
			     CHECK_OK, 0, NULL, "the daemon can tell duplicates of a descriptor");
	else
		findings_add(findings, "same-file", "F_DUPFD_QUERY", CHECK_WARNING, 0,
			     "Boot Linux 6.10 or later, or a kernel with CONFIG_KCMP",
			     "neither it nor kcmp is there: the daemon cannot tell duplicates of a "
			     "descriptor");
}
