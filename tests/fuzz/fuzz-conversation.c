/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whole conversations of several processes with a daemon, and its deaths between them: peer, methods,
 * sessions, journals and recovery, with descriptors. An input is lines of text, each one step, so
 * that a corpus can be read and written by hand:
 *
 *	+1		process 1 connects (on the first connection that is free, 0 to 7)
 *	>0 em {...}	on connection 0 a message, with an eventfd and a memfd: world_descriptors()
 *	A0 vm1		the same for a method of io.vfiocpr.Session with a name: Attach, ...
 *	O0 em		Store of objects of these kinds, with made up ids and names
 *	<0 -0		connection 0 is read, or closed
 *	!1		process 1 dies
 *	@		the daemon dies, and the next one starts
 *	.5		five seconds pass
 *	%2 #3		systemd's store breaks somehow; the third of the kernel's calls from now on fails
 *	J name		a journal that the next daemon will find (K: with its sending end in the store)
 *	j e {...}	a record in it
 */
#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "tests/fuzz/world.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 64

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world_init();
	return 0;
}

static const struct {
	char letter;
	const char *method, *parameters; /* %s: the rest of the line */
} calls[] = {
	{'A', "Attach", "\"name\":\"%s\""},
	{'B', "Attach", "\"name\":\"%s\",\"uid\":1000"},
	{'C', "Commit", ""},
	{'F', "Fetch", "\"cursor\":0%s"},
	{'D', "Remove", "\"kind\":\"device\",\"name\":\"%s\""},
	{'E', "Remove", "\"kind\":\"eventfd\",\"name\":\"%s\""},
	{'R', "Release", "\"name\":\"%s\""},
	{'Q', "Release", ""},
	{'L', "List", ""},
	{'S', "Show", "\"name\":\"%s\""},
	{'P', "Mappings", "\"name\":\"%s\",\"space\":\"dma\",\"cursor\":0"},
	{'T', "Status", ""},
};

/* The descriptors' letters up to a space, and what comes after that. */
static const char *split(const char *text, char *ret_kinds, size_t size)
{
	size_t n = strcspn(text, " ");

	g_strlcpy(ret_kinds, text, MIN(n + 1, size));
	return text[n] ? text + n + 1 : text + n;
}

static void send_message(unsigned int connection, const char *text)
{
	char kinds[32];
	const char *message = split(text, kinds, sizeof(kinds));

	world_send(connection, kinds, message, strlen(message));
}

static void send_text(unsigned int connection, const char *kinds, char *text)
{
	world_send(connection, kinds, text, strlen(text));
	g_free(text);
}

static const char *kind_of(char letter)
{
	switch (letter) {
	case 'c':
		return "container";
	case 'g':
		return "group";
	case 'd':
	case 'D':
		return "device";
	case 'i':
		return "iommufd";
	case 'm':
		return "memory";
	case 's':
		return "state";
	case 't':
		return "table";
	default:
		return "eventfd";
	}
}

/* Everything is of the space dma, as a table, container or iommufd is by its name. */
static char *name_of(char letter, const char *kind, unsigned int number)
{
	if (letter == 'D') /* the kernel knows which it is */
		return g_strdup("0000:00:01.0");
	if (strcmp(kind, "device") == 0)
		return g_strdup_printf("0000:00:01.%u", number % 8);
	if (strcmp(kind, "group") == 0)
		return g_strdup("26");
	if (strcmp(kind, "eventfd") == 0 || strcmp(kind, "memory") == 0)
		return g_strdup_printf("%s%u", kind, number);
	return g_strdup("dma");
}

/* An object of each letter's kind. */
static void send_objects(unsigned int connection, const char *kinds)
{
	g_autoptr(GString) objects = g_string_new("");
	g_autofree char *letters = g_strndup(kinds, 31);

	for (unsigned int i = 0; letters[i]; i++) {
		const char *kind = kind_of(letters[i]);
		g_autofree char *name = name_of(letters[i], kind, i);
		bool has_space = letters[i] == 'd' || letters[i] == 'D' || letters[i] == 'g';

		g_string_append_printf(
			objects,
			"%s{\"id\":%u,\"kind\":\"%s\",\"name\":\"%s\",\"firstFileDescriptor\":%u%s}",
			i ? "," : "", i + 1, kind, name, i, has_space ? ",\"space\":\"dma\"" : "");
	}
	send_text(connection, letters,
		  g_strdup_printf("{\"method\":\"io.vfiocpr.Session.Store\",\"parameters\":{"
				  "\"objects\":[%s]}}",
				  objects->str));
}

static void send_call(char letter, unsigned int connection, const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		g_auto(GStrv) parts = NULL;
		g_autofree char *parameters = NULL;

		if (calls[i].letter != letter)
			continue;
		parts = g_strsplit(calls[i].parameters, "%s", 2);
		parameters = g_strjoinv(name, parts);
		send_text(connection, "",
			  g_strdup_printf(
				  "{\"method\":\"io.vfiocpr.Session.%s\",\"parameters\":{%s}}",
				  calls[i].method, parameters));
	}
}

static void send_monitor(unsigned int connection)
{
	send_text(connection, "",
		  g_strdup("{\"method\":\"io.vfiocpr.Session.Monitor\",\"more\":true}"));
}

static void append_record(const char *text)
{
	char kinds[32];
	const char *record = split(text, kinds, sizeof(kinds));

	world_record(kinds, record, strlen(record));
}

static void do_step(const char *line)
{
	unsigned int number = g_ascii_isdigit(line[0] ? line[1] : 0) ? line[1] - '0' : 0;
	const char *rest = strlen(line) > 3 ? line + 3 : "";

	switch (line[0]) {
	case '+':
		world_connect(number);
		break;
	case '-':
		world_hang_up(number);
		world_turn();
		break;
	case '<':
		world_read(number);
		break;
	case '>':
		send_message(number, rest);
		break;
	case 'O':
		send_objects(number, rest);
		break;
	case 'M':
		send_monitor(number);
		break;
	case '!':
		world_kill(number);
		break;
	case '@':
		world_restart();
		break;
	case '.':
		world_pass(number);
		break;
	case '%':
		world_break_store(number);
		break;
	case '#':
		world_break_kernel(number);
		break;
	case 'J':
	case 'K':
		world_journal(line + 1, strlen(line + 1), line[0] == 'K');
		break;
	case 'j':
		append_record(strlen(line) > 2 ? line + 2 : "");
		break;
	default:
		send_call(line[0], number, rest);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_strndup((const char *)data, size);
	char *line, *rest = text;

	world_begin();
	for (int i = 0; i < STEPS_MAX && (line = strsep(&rest, "\n")); i++)
		do_step(line);
	world_end();
	return 0;
}
