/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resource limits. They belong to a process: those of the shell that asks say nothing of a VMM's
 * unit, and so are told, but are no warning.
 */
#include "cprctl/hostcheck.h"

/* An eventfd for each MSI-X vector, up to 2048 a device; systemd/50-vm-example.conf has it too. */
#define NOFILE_WANTED 524288

#define OF_A_UNIT "'check --unit UNIT' looks at the unit of a VMM"

static void check_memlock(Findings *findings, guint64 memlock, const char *whose)
{
	if (memlock == LIMIT_INFINITY)
		findings_add(findings, "memlock", "RLIMIT_MEMLOCK", CHECK_OK, 0, NULL,
			     "is not limited for %s", whose ? whose : "this shell");
	else if (!whose)
		findings_add(findings, "memlock", "RLIMIT_MEMLOCK", CHECK_UNKNOWN, 0, OF_A_UNIT,
			     "is %" G_GUINT64_FORMAT
			     " KiB for this shell; a VMM's unit has its own, which was not looked "
			     "into",
			     memlock / 1024);
	else
		/* IOMMU_IOAS_CHANGE_PROCESS charges before it uncharges, and knows no
		 * CAP_IPC_LOCK. */
		findings_add(findings, "memlock", "RLIMIT_MEMLOCK", CHECK_WARNING, 0,
			     "Set LimitMEMLOCK=infinity in the VMM's unit; with a limit, iommufd "
			     "needs twice the guest's memory",
			     "is %" G_GUINT64_FORMAT
			     " KiB for %s: it cannot pin more without privilege, and with iommufd "
			     "not take over more even as root",
			     memlock / 1024, whose);
}

static void check_nofile(Findings *findings, guint64 nofile, const char *whose)
{
	g_autofree char *remedy =
		g_strdup_printf("Set LimitNOFILE=%d in the VMM's unit", NOFILE_WANTED);

	if (nofile >= NOFILE_WANTED)
		findings_add(findings, "nofile", "RLIMIT_NOFILE", CHECK_OK, 0, NULL,
			     "the hard limit is high enough for %s", whose ? whose : "this shell");
	else if (!whose)
		findings_add(findings, "nofile", "RLIMIT_NOFILE", CHECK_UNKNOWN, 0, OF_A_UNIT,
			     "the hard limit is %" G_GUINT64_FORMAT
			     " for this shell; a VMM's unit has its own, which was not looked into",
			     nofile);
	else
		findings_add(findings, "nofile", "RLIMIT_NOFILE", CHECK_WARNING, 0, remedy,
			     "the hard limit is %" G_GUINT64_FORMAT
			     " for %s; each MSI-X vector takes a descriptor, up to 2048 a device",
			     nofile, whose);
}

void check_limits(Findings *findings, const struct limits *limits, const char *whose)
{
	check_memlock(findings, limits->memlock, whose);
	check_nofile(findings, limits->nofile, whose);
}
