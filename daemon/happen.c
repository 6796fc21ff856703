/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens to a session, in sentences and as events: daemon/happen.h. */
#include "daemon/happen.h"

#include <inttypes.h>

#include "daemon/log.h"
#include "daemon/monitor.h"
#include "daemon/server.h"
#include "daemon/session.h"

#define DEVICES_TOLD 4 /* a line is to be read */

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

static char *tell_orphaned(const struct session *session, const struct happening_detail *detail)
{
	g_autofree char *unit = session_of_unit(session);
	g_autofree char *process = detail->pid > 0
					   ? g_strdup_printf("process %d%s", (int)detail->pid, unit)
					   : g_strdup_printf("its holder%s", unit);
	g_autofree char *devices = with_devices(session);
	g_autofree char *settled = spaces_settled(detail->spaces, detail->usec);
	size_t n = session_descriptors(session);

	return g_strdup_printf("session %s is orphaned: %s died; %zu descriptor%s held%s%s",
			       session->name, process, n, n == 1 ? " is" : "s are", devices,
			       settled);
}

static char *duration(gint64 usec)
{
	if (usec < G_USEC_PER_SEC)
		return g_strdup_printf("%" PRId64 " ms", usec / 1000);
	if (usec < 120 * G_USEC_PER_SEC)
		return g_strdup_printf("%.1f s", (double)usec / G_USEC_PER_SEC);
	return g_strdup_printf("%" PRId64 " min", usec / G_USEC_PER_SEC / 60);
}

static char *tell_active(const struct session *session, const struct happening_detail *detail)
{
	g_autofree char *unit = session_of_unit(session);
	g_autofree char *outage = duration(g_get_monotonic_time() - detail->died);
	bool told = detail->died > 0;

	return g_strdup_printf("session %s is active again, held by process %d%s%s%s",
			       session->name, (int)session->holder.pid, unit,
			       told ? "; it was without a VMM for " : "", told ? outage : "");
}

/* The monotonic time as a clock on the wall shows it. */
static char *wall_time(gint64 monotonic)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_local();
	g_autoptr(GDateTime) then = g_date_time_add(now, monotonic - g_get_monotonic_time());

	return g_date_time_format(then, "%F %T");
}

static char *tell_aged(const struct session *session, const struct happening_detail *detail)
{
	g_autofree char *since = wall_time(session->since);
	g_autofree char *unit = session_of_unit(session);
	g_autofree char *devices = with_devices(session);
	g_autofree char *owner = session->uid == 0 ? g_strdup("")
						   : g_strdup_printf("--uid %u ", session->uid);
	size_t n = session_descriptors(session);

	(void)detail;
	return g_strdup_printf(
		"session %s%s has been orphaned since %s, and nobody has claimed it: %zu descriptor%s "
		"held%s, and the memory that DMA has pinned. Start its VM again, or let go of "
		"it: vfio-cprctl release %s%s%s",
		session->name, unit, since, n, n == 1 ? " is" : "s are", devices, owner,
		*session->name == '-' ? "-- " : "", session->name);
}

static char *tell_created(const struct session *session, const struct happening_detail *detail)
{
	(void)detail;
	return g_strdup_printf("session %s is new, held by process %d", session->name,
			       (int)session->holder.pid);
}

static char *tell_claimed(const struct session *session, const struct happening_detail *detail)
{
	(void)detail;
	return g_strdup_printf("session %s is claimed by process %d", session->name,
			       (int)session->holder.pid);
}

static char *tell_releasing(const struct session *session, const struct happening_detail *detail)
{
	return g_strdup_printf("session %s is being released by %s", session->name, detail->by);
}

static char *tell_released(const struct session *session, const struct happening_detail *detail)
{
	(void)detail;
	return g_strdup_printf("session %s is released", session->name);
}

/* The event's name for those who watch, and the sentence of the log; NULL: it is not told there. */
static const struct {
	const char *event;
	char *(*sentence)(const struct session *session, const struct happening_detail *detail);
	GLogLevelFlags level;
} happenings[] = {
	[HAPPENED_CREATED] = {"created", tell_created, G_LOG_LEVEL_MESSAGE},
	[HAPPENED_ORPHANED] = {"orphaned", tell_orphaned, G_LOG_LEVEL_MESSAGE},
	[HAPPENED_AGED] = {NULL, tell_aged, G_LOG_LEVEL_WARNING},
	[HAPPENED_CLAIMED] = {"restoring", tell_claimed, G_LOG_LEVEL_MESSAGE},
	[HAPPENED_ACTIVE] = {"active", tell_active, G_LOG_LEVEL_MESSAGE},
	[HAPPENED_CHANGED] = {"changed", NULL, 0},
	[HAPPENED_RELEASING] = {NULL, tell_releasing, G_LOG_LEVEL_MESSAGE},
	[HAPPENED_RELEASED] = {"released", tell_released, G_LOG_LEVEL_MESSAGE},
};

void session_happened(const struct session *session, enum happening what,
		      const struct happening_detail *detail)
{
	if (happenings[what].sentence) {
		g_autofree char *sentence = happenings[what].sentence(session, detail);

		log_message(happenings[what].level, session, "%s", sentence);
	}
	if (happenings[what].event)
		monitor_tell(session, happenings[what].event);
	server_changed(session->server);
}
