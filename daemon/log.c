/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logging by GLib's structured log, which finds out itself whether stderr is the journal. */
#include "daemon/log.h"

#include "daemon/session.h"

void log_message(GLogLevelFlags level, const struct session *session, const char *format, ...)
{
	static const char *const priorities[] = {"3", "4", "5", "7"};
	const char *priority = level == G_LOG_LEVEL_CRITICAL  ? priorities[0]
			       : level == G_LOG_LEVEL_WARNING ? priorities[1]
			       : level == G_LOG_LEVEL_MESSAGE ? priorities[2]
							      : priorities[3];
	g_autofree char *message = NULL;
	char uid[16] = "";
	GLogField fields[5] = {
		{"PRIORITY", priority, -1},
		{"GLIB_DOMAIN", "vfio-cprd", -1},
	};
	gsize n = 3;
	va_list arguments;

	va_start(arguments, format);
	message = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	fields[2] = (GLogField){"MESSAGE", message, -1};
	if (session) {
		g_snprintf(uid, sizeof(uid), "%u", session->uid);
		fields[n++] = (GLogField){"VFIO_CPR_SESSION", session->name, -1};
		fields[n++] = (GLogField){"VFIO_CPR_UID", uid, -1};
	}
	g_log_structured_array(level, fields, n);
}
