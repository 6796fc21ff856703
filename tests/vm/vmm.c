/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tests' VMM: reads commands and finds who runs them. What it is: tests/vm/vmm.h. */
#include "tests/vm/vmm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vfio_cpr *cpr;
struct thing *spaces;
char *word[16];
int words;

static struct thing *look_up(struct thing *things, const char *name)
{
	while (things && strcmp(things->name, name) != 0)
		things = things->next;
	return things;
}

struct thing *find(struct thing *things, const char *name)
{
	struct thing *thing = look_up(things, name);

	if (!thing)
		printf("error %d no %s was got yet\n", EINVAL, name);
	return thing;
}

void keep(struct thing **things, const char *name, void *pointer)
{
	struct thing *thing = look_up(*things, name);

	if (!thing) {
		thing = calloc(1, sizeof(*thing));
		thing->name = strdup(name);
		thing->next = *things;
		*things = thing;
	}
	thing->pointer = pointer;
}

uint64_t number(int i)
{
	return i < words ? strtoull(word[i], NULL, 0) : 0;
}

void answer(int r, const char *rest)
{
	if (r < 0)
		printf("error %d %s\n", -r, vfio_cpr_strerror(cpr));
	else
		printf("ok %d%s\n", r, rest);
}

static bool run_one_of(const struct command *command)
{
	while (command->name && strcmp(command->name, word[0]) != 0)
		command++;
	if (!command->name || words < command->min_words)
		return false;
	command->run();
	return true;
}

static void run(char *line)
{
	words = 0;
	for (char *save = NULL, *next = strtok_r(line, " \n", &save); next && words < 16;
	     next = strtok_r(NULL, " \n", &save))
		word[words++] = next;
	if (words == 0 || (!run_one_of(session_commands) && !run_one_of(device_commands)))
		printf("error %d unknown command, or too few words\n", EINVAL);
}

int main(void)
{
	char line[1024];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin))
		run(line);
	vfio_cpr_close(cpr);
	return 0;
}
