/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * check: whether this host, and these devices, can be handed over, before a VMM depends on it.
 * Needs no daemon. hostprobe.c asks, hostcheck.c and devicecheck.c judge, here it is put together
 * and printed.
 */
#include <stdio.h>
#include <sys/utsname.h>

#include "cprctl/access.h"
#include "cprctl/cprctl.h"
#include "cprctl/daemoncheck.h"
#include "cprctl/hostcheck.h"
#include "cprctl/output.h"
#include "cprctl/unitcheck.h"

static const char *const status_names[] = {
	[CHECK_OK] = "ok",
	[CHECK_UNKNOWN] = "unknown",
	[CHECK_WARNING] = "warning",
	[CHECK_BLOCKER] = "blocker",
};

/* What follows from the findings so far for one backend. */
static void conclude(Findings *findings, const char *name, unsigned int backend,
		     struct verdict verdict)
{
	bool other = (verdict.good | verdict.doubt) & ~backend;

	if (verdict.good & backend)
		findings_add(findings, "backend", name, CHECK_OK, 0, NULL,
			     "can hand devices over on this host");
	else if (verdict.doubt & backend)
		findings_add(findings, "backend", name, CHECK_UNKNOWN, backend,
			     "See the findings above",
			     "may or may not work on this host: not all was looked into");
	else
		findings_add(findings, "backend", name, other ? CHECK_WARNING : CHECK_BLOCKER,
			     backend, "See the findings above", "does not work on this host%s",
			     verdict.good & ~backend ? "; the other backend does" : "");
}

static void check_kernel_and_nodes(Findings *findings)
{
	struct utsname host = {0};
	struct type1_facts type1;
	struct iommufd_facts iommufd;

	uname(&host);
	probe_type1("", &type1);
	probe_iommufd("", &iommufd);

	check_kernel(findings, host.release, host.machine);
	check_iommu(findings, "");
	check_driver(findings, "");
	check_type1(findings, &type1);
	check_iommufd(findings, "", &iommufd);
}

static struct verdict check_host(Findings *findings, const struct check_scope *scope,
				 const char *socket)
{
	struct process_facts process;
	struct verdict verdict;

	check_kernel_and_nodes(findings);
	probe_process(&process);
	check_process(findings, &process);
	if (scope->unit)
		check_unit(findings, "", scope->unit);
	else
		check_limits(findings, &process.limits, NULL);
	check_access(findings, scope, socket);

	verdict = findings_settle(findings, 0, (struct verdict){.good = BACKEND_ALL});
	conclude(findings, "type1", BACKEND_TYPE1, verdict);
	conclude(findings, "iommufd", BACKEND_IOMMUFD, verdict);
	return verdict;
}

/* Whether each device is known to work with a backend. */
static bool check_devices(Findings *findings, const struct check_scope *scope,
			  const GPtrArray *names, struct verdict host)
{
	bool good = true;

	/* On a host where nothing works, a device is judged on its own merits. */
	if (!(host.good | host.doubt))
		host.good = BACKEND_ALL;
	for (guint i = 0; i < names->len; i++) {
		size_t first = findings->len;

		check_device(findings, scope, names->pdata[i]);
		if (!findings_settle(findings, first, host).good)
			good = false;
	}
	return good;
}

static int print_json(const Findings *findings)
{
	json_auto_t *told = json_array();

	for (guint i = 0; i < findings->len; i++) {
		const struct finding *finding = findings->pdata[i];

		json_array_append_new(told,
				      json_pack("{s:s, s:s, s:s, s:s, s:s?}", "check",
						finding->check, "subject", finding->subject,
						"status", status_names[finding->status], "detail",
						finding->detail, "remedy", finding->remedy));
	}
	return output_json(told, false);
}

static void print_lines(const struct ctl *ctl, const Findings *findings)
{
	unsigned int counts[G_N_ELEMENTS(status_names)] = {0};

	for (guint i = 0; i < findings->len; i++) {
		const struct finding *finding = findings->pdata[i];
		g_autofree char *subject = output_escape(finding->subject);
		g_autofree char *detail = output_escape(finding->detail);
		g_autofree char *remedy = output_escape(finding->remedy ? finding->remedy : "");

		counts[finding->status]++;
		printf("%-8s %-13s  %s: %s\n", status_names[finding->status], finding->check,
		       subject, detail);
		if (*remedy && finding->status != CHECK_OK)
			printf("%24s-> %s\n", "", remedy);
	}
	if (ctl->legend)
		printf("\n%u ok, %u unknown, %u warnings, %u blockers\n", counts[CHECK_OK],
		       counts[CHECK_UNKNOWN], counts[CHECK_WARNING], counts[CHECK_BLOCKER]);
}

/*
 * Asks systemd for the unit, if one was named, and the databases for the user, who is the unit's if
 * none was named. What cannot be found out becomes a finding; CTL_USAGE: there is no such user.
 */
static int find_scope(Findings *findings, const char *unit_name, const char *user_name,
		      struct unit_facts **ret_unit, struct credentials **ret_user)
{
	g_autofree char *failure = NULL;
	struct unit_facts *unit = NULL;
	const char *missing = NULL, *name = user_name;

	if (unit_name && !(unit = *ret_unit = unit_ask(unit_name, &failure)))
		findings_add(findings, "unit", unit_name, CHECK_UNKNOWN, BACKEND_ALL,
			     "Run this on the host itself, where systemd can be asked",
			     "was not looked into: %s", failure);
	if (!name && unit && g_str_equal(unit->load_state, "loaded"))
		name = *unit->user ? unit->user : "root";
	if (!name || credentials_find(name, unit ? unit->group : NULL, unit ? unit->groups : NULL,
				      ret_user, &missing) == 0)
		return CTL_OK;
	if (user_name && g_str_equal(missing, user_name)) {
		ctl_error("there is no user %s on this host", user_name);
		return CTL_USAGE;
	}
	findings_add(findings, "unit", unit ? unit->id : name, CHECK_UNKNOWN, BACKEND_ALL,
		     "Make it, or name the VMM's user with --user",
		     "its user or group %s does not exist (yet): what it may open was not looked "
		     "into",
		     missing);
	return CTL_OK;
}

/* The devices given or, if there are none, those bound to a VFIO driver. */
static GPtrArray *names_of(Findings *findings, int argc, char **argv)
{
	GPtrArray *names;
	int error = 0;

	if (argc > 1) {
		names = g_ptr_array_new_with_free_func(g_free);
		for (int i = 1; i < argc; i++)
			g_ptr_array_add(names, g_strdup(argv[i]));
		return names;
	}
	names = devices_of_vfio("", &error);
	if (error)
		findings_add(findings, "device", "/sys/bus/pci/devices", CHECK_UNKNOWN, 0,
			     "Run this as root, or name the devices", "not all was looked into: %s",
			     g_strerror(-error));
	else if (!names->len)
		findings_add(findings, "device", "/sys/bus/pci/devices", CHECK_WARNING, 0,
			     "'vfio-cprctl check DEVICE' tells how to bind one",
			     "no PCI device is bound to a VFIO driver");
	return names;
}

/* Whether all that was asked for is known to be good. */
static bool check_all(struct ctl *ctl, Findings *findings, struct check_scope *scope, int argc,
		      char **argv)
{
	struct verdict host = check_host(findings, scope, ctl->socket);
	json_auto_t *sessions = check_daemon(ctl, findings);
	g_autoptr(GPtrArray) names = names_of(findings, argc, argv);
	bool good;

	scope->sessions = sessions;
	good = check_devices(findings, scope, names, host);
	scope->sessions = NULL;
	return host.good && (good || !scope->are_given);
}

int check_run(struct ctl *ctl, int argc, char **argv)
{
	g_autofree char *unit_name = NULL, *user_name = NULL;
	const GOptionEntry entries[] = {
		{"unit", 0, 0, G_OPTION_ARG_STRING, &unit_name,
		 "For a VMM in that systemd unit: its user, limits and sandbox", "UNIT"},
		{"user", 0, 0, G_OPTION_ARG_STRING, &user_name,
		 "For a VMM of that user: what it may open (asked as root)", "USER"},
		{0},
	};
	g_autoptr(GPtrArray) findings = findings_new();
	struct check_scope scope = {.root = ""};
	auto_unit_facts *unit = NULL;
	auto_credentials *user = NULL;
	bool good;
	int r;

	r = ctl_options(ctl, entries, "[DEVICE...]",
			"Finds out whether this host, and these devices, can be handed over.\n"
			"DEVICE: a PCI address (0000:3b:00.0) or an mdev's UUID; without any, all "
			"PCI devices\nbound to a VFIO driver. Opens no device and changes nothing. "
			"Ends with 0 only if\nthat is known: what could not be looked into is "
			"'unknown', and no yes.",
			0, -1, &argc, &argv);
	if (r != CTL_OK)
		return r;
	if (unit_name && !unit_name_is_valid(unit_name)) {
		ctl_error("'%s' is no name of a systemd unit", unit_name);
		return CTL_USAGE;
	}
	r = find_scope(findings, unit_name, user_name, &unit, &user);
	if (r != CTL_OK)
		return r;
	scope.unit = unit;
	scope.user = user;
	scope.are_given = argc > 1;

	good = check_all(ctl, findings, &scope, argc, argv);

	if (ctl->json)
		r = print_json(findings);
	else
		print_lines(ctl, findings);
	return r < 0 || !good ? CTL_FAILURE : CTL_OK;
}
