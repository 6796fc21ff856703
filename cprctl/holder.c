/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which session of the daemon holds a device. An orphan's device looks idle on the host, no process
 * that anybody would think of has it; yet no other VM gets it, and an unbind waits for ever. Only
 * the daemon can say why.
 */
#include <string.h>
#include <unistd.h>

#include "cprctl/holder.h"
#include "cprctl/output.h"
#include "cprctl/session.h"
#include "cprctl/unitcheck.h"

const json_t *holder_find(const json_t *sessions, const char *device)
{
	json_t *session, *name;
	size_t i, j;

	json_array_foreach(sessions, i, session)
	{
		json_array_foreach(json_object_get(session, "devices"), j, name)
		{
			if (json_is_string(name) && g_str_equal(json_string_value(name), device))
				return session;
		}
	}
	return NULL;
}

/* The unit of its VMM or, of an orphan, of its last one; "" if unknown. */
static const char *unit_of(const json_t *session)
{
	const char *unit = output_string(session, "unit");

	return *unit ? unit : output_string(json_object_get(session, "holder"), "unit");
}

char *holder_words(const json_t *session)
{
	const char *unit = unit_of(session);
	g_autofree char *age = output_age(output_int(session, "ageUsec"));

	return g_strdup_printf("session %s of uid %" PRId64 " (%s for %s%s%s)",
			       output_string(session, "name"), output_int(session, "uid"),
			       output_string(session, "state"), age, *unit ? ", " : "", unit);
}

/* A word as a shell takes it: names are chosen by users, and remedies are pasted by root. */
static char *shell_word(const char *text)
{
	bool is_plain = *text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					      "0123456789_@%+=:,./-") == strlen(text);

	return is_plain ? g_strdup(text) : g_shell_quote(text);
}

static char *release_command(const json_t *session)
{
	const char *text = output_string(session, "name");
	const char *dashes = *text == '-' ? "-- " : "";
	g_autofree char *name = shell_word(text);
	int64_t uid = output_int(session, "uid");

	if (uid == geteuid())
		return g_strdup_printf("vfio-cprctl release %s%s", dashes, name);
	return g_strdup_printf("vfio-cprctl release --uid %" PRId64 " %s%s", uid, dashes, name);
}

char *holder_remedy(const json_t *session)
{
	g_autofree char *release = release_command(session);
	g_autofree char *unit = shell_word(unit_of(session));
	const json_t *holder = json_object_get(session, "holder");
	bool has_unit = unit_name_is_valid(unit_of(session));

	if (g_str_equal(output_string(session, "state"), "releasing"))
		return g_strdup("Wait: it is being closed");
	if (json_is_object(holder) && has_unit)
		return g_strdup_printf("To take it from that VM: systemctl stop %s && %s", unit,
				       release);
	if (json_is_object(holder))
		return g_strdup_printf("To take it from that VM, end its process %" PRId64
				       " and then: %s",
				       output_int(holder, "pid"), release);
	if (has_unit)
		return g_strdup_printf("If that VM is to go on: systemctl start %s. If not, this "
				       "resets the device: %s",
				       unit, release);
	return g_strdup_printf("If that VM is to go on, start its VMM again. If not, this resets "
			       "the device: %s",
			       release);
}

static bool is_own(const struct check_scope *scope, const json_t *session)
{
	return scope->unit && g_str_equal(scope->unit->id, unit_of(session));
}

static void tell_holder(Findings *findings, const struct check_scope *scope, const char *device,
			const json_t *session, const char *through)
{
	g_autofree char *words = holder_words(session);
	g_autofree char *remedy = holder_remedy(session);

	if (is_own(scope, session))
		findings_add(findings, "device-holder", device, CHECK_OK, 0, NULL,
			     "%sis held for this unit by %s", through, words);
	else if (!scope->are_given && json_is_object(json_object_get(session, "holder")))
		findings_add(findings, "device-holder", device, CHECK_OK, 0, NULL,
			     "%sis held by %s", through, words);
	else
		findings_add(findings, "device-holder", device, CHECK_BLOCKER, BACKEND_ALL, remedy,
			     "%sis held by %s: another VM cannot use it now", through, words);
}

/* A group belongs to one VMM as a whole. Whether another device of it is held. */
static bool check_rest_of_group(Findings *findings, const struct check_scope *scope,
				const struct device *device)
{
	g_autoptr(GPtrArray) members = device->group ? device_group_members(device, NULL) : NULL;

	for (guint i = 0; members && i < members->len; i++) {
		const json_t *session = holder_find(scope->sessions, members->pdata[i]);
		g_autofree char *through =
			g_strdup_printf("with its IOMMU group, of %s, ", (char *)members->pdata[i]);

		if (!session)
			continue;
		tell_holder(findings, scope, device->name, session, through);
		return true;
	}
	return false;
}

/* The first session whose devices nobody knows: it cannot be read, or was not told of. */
static const json_t *find_opaque(const json_t *sessions)
{
	json_t *session;
	size_t i;

	json_array_foreach(sessions, i, session)
	{
		if (!json_is_array(json_object_get(session, "devices")) &&
		    (session_count_kind(session, "device") ||
		     g_str_equal(output_string(session, "state"), "unreadable")))
			return session;
	}
	return NULL;
}

static void tell_no_holder(Findings *findings, const struct check_scope *scope, const char *device)
{
	const json_t *opaque = find_opaque(scope->sessions);
	g_autofree char *words = opaque ? holder_words(opaque) : NULL;

	if (opaque)
		findings_add(findings, "device-holder", device, CHECK_UNKNOWN, 0,
			     "Restart a vfio-cprd of the version that stored it: systemctl restart "
			     "vfio-cprd",
			     "no session is known to hold it, but the devices of %s cannot be told",
			     words);
	else if (geteuid() == 0)
		findings_add(findings, "device-holder", device, CHECK_OK, 0, NULL,
			     "no session holds it");
	else
		findings_add(
			findings, "device-holder", device, CHECK_UNKNOWN, 0, "Run this as root",
			"no session that this user may see holds it; other users' sessions are "
			"shown to root alone");
}

void check_holder(Findings *findings, const struct check_scope *scope, const struct device *device)
{
	const json_t *session = holder_find(scope->sessions, device->name);

	if (!scope->sessions)
		return;
	if (session)
		tell_holder(findings, scope, device->name, session, "");
	else if (!check_rest_of_group(findings, scope, device))
		tell_no_holder(findings, scope, device->name);
}
