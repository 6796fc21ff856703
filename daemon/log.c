/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logging, to the journal or as lines of text: daemon/log.h. */
#include "daemon/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/plain.h"
#include "daemon/ratelimit.h"
#include "daemon/session.h"

#define DOMAIN "vfio-cprd"

/* Lines of text */

static const char *level_prefix(GLogLevelFlags level)
{
	if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
		return "error: ";
	if (level & G_LOG_LEVEL_WARNING)
		return "warning: ";
	return level & G_LOG_LEVEL_DEBUG ? "debug: " : "";
}

/*
 * A message may quote a peer: what is no plain character is escaped, so that nothing in it can
 * begin a line or control a terminal.
 */
static void append_safely(GString *line, const char *message)
{
	g_autofree char *valid = g_utf8_make_valid(message, -1);

	for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);

		if (!plain_character(c))
			g_string_append_printf(line, "\\x%02x", c);
		else
			g_string_append_unichar(line, c);
	}
}

static const char *field(const GLogField *fields, gsize n, const char *key)
{
	for (gsize i = 0; i < n; i++)
		if (strcmp(fields[i].key, key) == 0 && fields[i].length < 0)
			return fields[i].value;
	return NULL;
}

static void write_line(GLogLevelFlags level, const GLogField *fields, gsize n)
{
	const char *domain = field(fields, n, "GLIB_DOMAIN"),
		   *message = field(fields, n, "MESSAGE");
	g_autoptr(GString) line = g_string_new(DOMAIN ": ");

	g_string_append(line, level_prefix(level));
	if (domain && strcmp(domain, DOMAIN) != 0)
		g_string_append_printf(line, "%s: ", domain);
	append_safely(line, message ? message : "a message without words");
	g_string_append_c(line, '\n');
	fputs(line->str, stderr);
}

static GLogWriterOutput write_entry(GLogLevelFlags level, const GLogField *fields, gsize n,
				    gpointer is_journal)
{
	if (g_log_writer_default_would_drop(level, field(fields, n, "GLIB_DOMAIN")))
		return G_LOG_WRITER_HANDLED;
	if (!is_journal || g_log_writer_journald(level, fields, n, NULL) != G_LOG_WRITER_HANDLED)
		write_line(level, fields, n);
	return G_LOG_WRITER_HANDLED;
}

void log_init(void)
{
	bool is_journal = g_log_writer_is_journald(fileno(stderr));

	g_log_set_writer_func(write_entry, GINT_TO_POINTER(is_journal), NULL);
}

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
		{"GLIB_DOMAIN", DOMAIN, -1},
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

bool log_is_debugging(void)
{
	return !g_log_writer_default_would_drop(G_LOG_LEVEL_DEBUG, DOMAIN);
}

bool log_may(uid_t uid)
{
	unsigned int lost;

	if (!ratelimit_allows(uid, g_get_monotonic_time(), &lost))
		return false;
	if (lost > 0)
		log_warning(NULL, "%u more messages like the next were not logged", lost);
	return true;
}
