/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Logging, to the journal or as lines of text: daemon/log.h. Whoever takes them may stand still, so
 * a thread writes them (logwriter.c), and the others just leave them there.
 */
#include "daemon/log.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/plain.h"
#include "daemon/logwriter.h"
#include "daemon/ratelimit.h"
#include "daemon/session.h"

#define DOMAIN		"vfio-cprd"
#define LAST_WORDS_USEC G_USEC_PER_SEC /* how long the end waits for what was logged */

static bool is_journal;
static bool is_torn; /* the last line could be written in part only */

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

/* To standard error, which may be of a file system that is full. How much of it was written. */
static size_t write_all(const char *text, size_t size)
{
	size_t done = 0;

	while (done < size) {
		struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
		ssize_t n = write(STDERR_FILENO, text + done, size - done);

		/* Somebody else who has it open may have made it non-blocking. */
		if (n < 0 && errno == EAGAIN)
			poll(&room, 1, -1);
		else if (n < 0 && errno != EINTR)
			break;
		done += MAX(n, 0);
	}
	return done;
}

static bool write_line(GLogLevelFlags level, const GLogField *fields, gsize n)
{
	const char *domain = field(fields, n, "GLIB_DOMAIN"),
		   *message = field(fields, n, "MESSAGE");
	g_autoptr(GString) line = g_string_new(is_torn ? "\n" DOMAIN ": " : DOMAIN ": ");
	size_t done;

	g_string_append(line, level_prefix(level));
	if (domain && strcmp(domain, DOMAIN) != 0)
		g_string_append_printf(line, "%s: ", domain);
	append_safely(line, message ? message : "a message without words");
	g_string_append_c(line, '\n');
	done = write_all(line->str, line->len);
	if (done > 0)
		is_torn = done < line->len;
	return done == line->len;
}

static bool write_message(GLogLevelFlags level, const GLogField *fields, gsize n)
{
	return (is_journal &&
		g_log_writer_journald(level, fields, n, NULL) == G_LOG_WRITER_HANDLED) ||
	       write_line(level, fields, n);
}

static GLogWriterOutput take(GLogLevelFlags level, const GLogField *fields, gsize n,
			     gpointer unused)
{
	(void)unused;
	if (g_log_writer_default_would_drop(level, field(fields, n, "GLIB_DOMAIN")))
		return G_LOG_WRITER_HANDLED;
	if (!logwriter_put(level, fields, n))
		write_message(level, fields, n);
	/* GLib aborts after that. */
	if (level & (G_LOG_LEVEL_ERROR | G_LOG_FLAG_FATAL))
		logwriter_flush(LAST_WORDS_USEC);
	return G_LOG_WRITER_HANDLED;
}

/* An assertion of GLib's that has failed; it aborts after that. */
static void print_error(const char *text)
{
	g_autofree char *line = g_strdup(text);

	log_error(NULL, "%s", g_strstrip(line));
	logwriter_flush(LAST_WORDS_USEC);
}

/* libevent would write to standard error itself; after an error it exits. */
static void take_from_libevent(int severity, const char *text)
{
	switch (severity) {
	case EVENT_LOG_ERR:
		log_error(NULL, "libevent: %s", text);
		logwriter_flush(LAST_WORDS_USEC);
		break;
	case EVENT_LOG_WARN:
		log_limited(RATELIMIT_NOBODY, G_LOG_LEVEL_WARNING, NULL, "libevent: %s", text);
		break;
	default:
		log_debug(NULL, "libevent: %s", text);
	}
}

void log_init(void)
{
	event_set_log_callback(take_from_libevent);
	is_journal = g_log_writer_is_journald(STDERR_FILENO);
	g_log_set_writer_func(take, NULL, NULL);
	g_set_printerr_handler(print_error);
}

int log_start(void)
{
	return logwriter_start(write_message);
}

void log_stop(void)
{
	logwriter_stop(LAST_WORDS_USEC);
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
