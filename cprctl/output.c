/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The values that vfio-cprctl prints, and its JSON. Names come from other processes, and the
 * terminal is the operator's, often root's: nothing is printed that could be an escape sequence,
 * although the daemon refuses such names too.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/plain.h"
#include "cprctl/output.h"

char *output_escape(const char *text)
{
	GString *safe = g_string_new(NULL);
	const char *p = text;

	while (*p) {
		gunichar c = g_utf8_get_char_validated(p, -1);
		size_t length = 1;
		bool printable = false;

		if (c != (gunichar)-1 && c != (gunichar)-2) {
			length = g_utf8_next_char(p) - p;
			printable = plain_character(c);
		}
		for (size_t i = 0; i < length; i++) {
			if (printable)
				g_string_append_c(safe, p[i]);
			else
				g_string_append_printf(safe, "\\x%02x", (unsigned char)p[i]);
		}
		p += length;
	}
	return g_string_free(safe, FALSE);
}

void ctl_error(const char *format, ...)
{
	g_autofree char *sentence = NULL, *safe = NULL;
	va_list args;

	va_start(args, format);
	sentence = g_strdup_vprintf(format, args);
	va_end(args);
	safe = output_escape(sentence);
	fprintf(stderr, "vfio-cprctl: %s\n", safe);
}

char *output_age(uint64_t usec)
{
	static const struct {
		const char *name;
		uint64_t seconds;
	} units[] = {{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}};
	uint64_t seconds = usec / 1000000;

	if (!seconds)
		return g_strdup_printf("%ums", (unsigned int)(usec / 1000));

	for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
		uint64_t rest;

		if (seconds < units[i].seconds)
			continue;
		rest = seconds % units[i].seconds;
		if (i + 1 < G_N_ELEMENTS(units) && rest / units[i + 1].seconds)
			return g_strdup_printf("%" PRIu64 "%s %" PRIu64 "%s",
					       seconds / units[i].seconds, units[i].name,
					       rest / units[i + 1].seconds, units[i + 1].name);
		return g_strdup_printf("%" PRIu64 "%s", seconds / units[i].seconds, units[i].name);
	}
	return g_strdup("0s");
}

char *output_bytes(uint64_t size)
{
	static const char units[][4] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	size_t unit = 0;
	uint64_t whole = size;

	while (whole >= 1024) {
		whole >>= 10;
		unit++;
	}
	if (whole << (10 * unit) == size)
		return g_strdup_printf("%" PRIu64 " %s", whole, units[unit]);
	return g_strdup_printf("%.1f %s", (double)size / (double)(UINT64_C(1) << (10 * unit)),
			       units[unit]);
}

char *output_count(uint64_t count, const char *singular, const char *plural)
{
	return g_strdup_printf("%" PRIu64 " %s", count, count == 1 ? singular : plural);
}

int output_json(const json_t *value, bool one_line)
{
	/* ASCII only: what a terminal would interpret is escaped, any JSON reader gets it back. */
	size_t flags = JSON_ENSURE_ASCII | (one_line ? JSON_COMPACT : JSON_INDENT(2));

	if (json_dumpf(value, stdout, flags) < 0 || putchar('\n') == EOF)
		return -EIO;
	return 0;
}

bool output_flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return true;
	ctl_error("cannot write to standard output: %s", g_strerror(errno));
	return false;
}

const char *output_string(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

int64_t output_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}
