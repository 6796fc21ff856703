/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Journals as a hostile or a later daemon might have written them, and what a daemon makes of them.
 * Each line of an input is a record, with the letters of its descriptors before it (world_descriptors()):
 *
 *	J name		begins a journal, under that name in the fd store (K: its sending end, too)
 *	em {...}	a record, with an eventfd and a memfd
 *
 * Then a daemon recovers them, twice, as reading consumes nothing; sessions are looked at, claimed,
 * and released.
 */
#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "tests/fuzz/world.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINES_MAX 64

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world_init();
	return 0;
}

static void append(const char *line)
{
	size_t n = strcspn(line, " ");
	g_autofree char *kinds = g_strndup(line, MIN(n, 31));
	const char *record = line[n] ? line + n + 1 : line + n;

	world_record(kinds, record, strlen(record));
}

static void call(const char *method, const char *parameters)
{
	g_autofree char *text = g_strdup_printf(
		"{\"method\":\"io.vfiocpr.Session.%s\",\"parameters\":{%s}}", method, parameters);

	world_send(0, "", text, strlen(text));
	world_read(0);
}

/* What root, and then the owner of a session that the corpus has, do with it. */
static void use(void)
{
	world_connect(0);
	call("List", "");
	call("Show", "\"name\":\"vm1\"");
	world_hang_up(0);
	world_turn();
	world_connect(1);
	call("Attach", "\"name\":\"vm1\"");
	call("Fetch", "\"cursor\":0");
	call("Commit", "");
	world_kill(1);
	world_turn();
	world_hang_up(0);
	world_turn();
	world_connect(0);
	call("Release", "\"name\":\"vm1\",\"uid\":1000");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_strndup((const char *)data, size);
	char *line, *rest = text;

	world_begin();
	for (int i = 0; i < LINES_MAX && (line = strsep(&rest, "\n")); i++)
		if (line[0] == 'J' || line[0] == 'K')
			world_journal(line + 1, strlen(line + 1), line[0] == 'K');
		else
			append(line);
	world_restart();
	world_restart();
	use();
	world_restart();
	world_end();
	return 0;
}
