/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sentences of a session's life: daemon/lifelog.h. */
#include "daemon/lifelog.h"

#include <inttypes.h>

#include "daemon/log.h"
#include "daemon/session.h"

#define DEVICES_TOLD 4 /* a line is to be read */

char *lifelog_of_unit(const char *unit)
{
	return unit ? g_strconcat(" of ", unit, NULL) : g_strdup("");
}

/* ", with device A" or ", with devices A, B, C, D +2", or nothing. */
static char *with_devices(const struct session *session)
{
	g_autoptr(GPtrArray) devices = session_devices(session);
	GString *text = g_string_new("");

	if (devices->len > 0)
		g_string_append(text, devices->len == 1 ? ", with device" : ", with devices");
	for (guint i = 0; i < MIN(devices->len, DEVICES_TOLD); i++)
		g_string_append_printf(text, "%s %s", i > 0 ? "," : "",
				       (const char *)g_ptr_array_index(devices, i));
	if (devices->len > DEVICES_TOLD)
		g_string_append_printf(text, " +%u", devices->len - DEVICES_TOLD);
	return g_string_free(text, FALSE);
}

/* "; its 2 address spaces were settled in 15 us", or nothing. */
static char *spaces_settled(unsigned int spaces, gint64 usec)
{
	if (spaces == 0)
		return g_strdup("");
	if (spaces == 1)
		return g_strdup_printf("; its address space was settled in %" PRId64 " us", usec);
	return g_strdup_printf("; its %u address spaces were settled in %" PRId64 " us", spaces,
			       usec);
}

void lifelog_orphaned(const struct session *session, pid_t pid, unsigned int spaces, gint64 usec)
{
	g_autofree char *unit = lifelog_of_unit(session->unit);
	g_autofree char *process = pid > 0 ? g_strdup_printf("process %d%s", (int)pid, unit)
					   : g_strdup_printf("its holder%s", unit);
	g_autofree char *devices = with_devices(session);
	g_autofree char *settled = spaces_settled(spaces, usec);
	size_t n = object_set_total(&session->objects);

	log_notice(session, "session %s is orphaned: %s died; %zu descriptor%s held%s%s",
		   session->name, process, n, n == 1 ? " is" : "s are", devices, settled);
}

static char *duration(gint64 usec)
{
	if (usec < G_USEC_PER_SEC)
		return g_strdup_printf("%" PRId64 " ms", usec / 1000);
	if (usec < 120 * G_USEC_PER_SEC)
		return g_strdup_printf("%.1f s", (double)usec / G_USEC_PER_SEC);
	return g_strdup_printf("%" PRId64 " min", usec / G_USEC_PER_SEC / 60);
}

void lifelog_active(const struct session *session, gint64 died)
{
	g_autofree char *unit = lifelog_of_unit(session->unit);
	g_autofree char *outage = duration(g_get_monotonic_time() - died);

	log_notice(session, "session %s is active again, held by process %d%s%s%s", session->name,
		   (int)session->holder.pid, unit, died > 0 ? "; it was without a VMM for " : "",
		   died > 0 ? outage : "");
}

/* The monotonic time as a clock on the wall shows it. */
static char *wall_time(gint64 monotonic)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_local();
	g_autoptr(GDateTime) then = g_date_time_add(now, monotonic - g_get_monotonic_time());

	return g_date_time_format(then, "%F %T");
}

void lifelog_old(const struct session *session)
{
	g_autofree char *since = wall_time(session->since);
	g_autofree char *unit = lifelog_of_unit(session->unit);
	g_autofree char *devices = with_devices(session);
	g_autofree char *owner = session->uid == 0 ? g_strdup("")
						   : g_strdup_printf("--uid %u ", session->uid);
	size_t n = object_set_total(&session->objects);

	log_warning(
		session,
		"session %s%s is orphaned since %s, and nobody has claimed it: %zu descriptor%s "
		"held%s, and the memory that DMA has pinned. Start its VM again, or let go of "
		"it: vfio-cprctl release %s%s%s",
		session->name, unit, since, n, n == 1 ? " is" : "s are", devices, owner,
		*session->name == '-' ? "-- " : "", session->name);
}
