/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands on the session: its life, memory, DMA mappings and state. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/vm/vmm.h"

static struct thing *memories;

static void do_open(void)
{
	int r = vfio_cpr_open(word[1], number(2), &cpr);

	if (r >= 0)
		vfio_cpr_set_timeout(cpr, UINT32_MAX); /* the harness cuts off what hangs */
	answer(r, "");
}

static void do_attach(void)
{
	static const char *const names[] = {" start=new", " start=claimed", " start=resumed"};
	enum vfio_cpr_start start = 0;
	int r = vfio_cpr_attach(cpr, word[1], &start);

	answer(r, names[start]);
}

static void do_space(void)
{
	enum vfio_cpr_backend backend = strcmp(word[2], "type1") == 0	  ? VFIO_CPR_BACKEND_TYPE1
					: strcmp(word[2], "iommufd") == 0 ? VFIO_CPR_BACKEND_IOMMUFD
									  : VFIO_CPR_BACKEND_AUTO;
	struct vfio_cpr_space *space;
	int r = vfio_cpr_space_get(cpr, word[1], backend, &space);

	if (r == 0)
		keep(&spaces, word[1], space);
	answer(r, "");
}

static void do_memory(void)
{
	struct vfio_cpr_memory *memory;
	int r = vfio_cpr_memory_get(cpr, word[1], number(2), number(3), &memory);
	void *address;

	if (r == 0)
		r = vfio_cpr_memory_map(memory, &address);
	if (r == 0)
		keep(&memories, word[1], memory);
	answer(r, r == 0 && vfio_cpr_memory_is_restored(memory) ? " restored=yes" : " restored=no");
}

/* map SPACE IOVA MEMORY OFFSET SIZE PROT [COUNT [STRIDE]]: COUNT mappings, STRIDE bytes of iova apart */
static void do_map(void)
{
	struct thing *space = find(spaces, word[1]),
		     *memory = space ? find(memories, word[3]) : NULL;
	uint64_t count = words > 7 ? number(7) : 1, stride = words > 8 ? number(8) : number(5);
	struct timespec start, end;
	char rest[64];
	int r = 0;

	if (!memory)
		return;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint64_t i = 0; i < count && r == 0; i++)
		r = vfio_cpr_dma_map(space->pointer, number(2) + i * stride, memory->pointer,
				     number(4) +
					     i * number(5) % vfio_cpr_memory_size(memory->pointer),
				     number(5), number(6));
	clock_gettime(CLOCK_MONOTONIC, &end);
	snprintf(rest, sizeof(rest), " usec=%ld",
		 (end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000);
	answer(r, rest);
}

static void do_unmap(void)
{
	struct thing *space = find(spaces, word[1]);

	if (space)
		answer(vfio_cpr_dma_unmap(space->pointer, number(2), number(3)), "");
}

static void do_restore(void)
{
	struct thing *space = find(spaces, word[1]);

	if (space)
		answer(vfio_cpr_dma_restore(space->pointer), "");
}

static int print_mapping(uint64_t iova, uint64_t size, const char *object, uint64_t offset,
			 uint32_t prot, void *userdata)
{
	(void)userdata;
	printf(" 0x%" PRIx64 "+0x%" PRIx64 "=%s@0x%" PRIx64 "/%u", iova, size, object, offset,
	       prot);
	return 0;
}

static int count_mapping(uint64_t iova, uint64_t size, const char *object, uint64_t offset,
			 uint32_t prot, void *userdata)
{
	(void)iova;
	(void)object;
	(void)offset;
	(void)prot;
	*(uint64_t *)userdata += size;
	return 0;
}

/* mappings SPACE [all]: their number and bytes; with all, each of them first */
static void do_mappings(void)
{
	struct thing *space = find(spaces, word[1]);
	uint64_t bytes = 0;
	char rest[64];
	int r;

	if (!space)
		return;
	r = vfio_cpr_dma_for_each(space->pointer, count_mapping, &bytes);
	if (words > 2 && r >= 0) {
		printf("ok %d", r);
		vfio_cpr_dma_for_each(space->pointer, print_mapping, NULL);
		printf("\n");
		return;
	}
	snprintf(rest, sizeof(rest), " bytes=%" PRIu64, bytes);
	answer(r, rest);
}

/* fill MEMORY OFFSET SIZE BYTE; check MEMORY OFFSET SIZE BYTE: how many bytes are right */
static void do_fill(void)
{
	struct thing *memory = find(memories, word[1]);
	void *address;

	if (!memory)
		return;
	vfio_cpr_memory_map(memory->pointer, &address);
	memset((char *)address + number(2), number(4), number(3));
	answer(0, "");
}

static void do_check(void)
{
	struct thing *memory = find(memories, word[1]);
	void *address;
	int right = 0;

	if (!memory)
		return;
	vfio_cpr_memory_map(memory->pointer, &address);
	for (uint64_t i = 0; i < number(3); i++)
		right += ((uint8_t *)address)[number(2) + i] == number(4);
	answer(right, "");
}

static void do_state_put(void)
{
	answer(vfio_cpr_state_put(cpr, word[1], word[2], strlen(word[2])), "");
}

static void do_state_get(void)
{
	void *data = NULL;
	size_t size = 0;
	int r = vfio_cpr_state_get(cpr, word[1], &data, &size);

	if (r < 0)
		answer(r, "");
	else
		printf("ok 0 data=%.*s\n", (int)size, (char *)data);
	free(data);
}

static int print_blocker(const char *object, const char *reason, void *userdata)
{
	(void)userdata;
	fprintf(stderr, "blocker: %s: %s\n", object, reason);
	return 0;
}

static void do_blockers(void)
{
	answer(vfio_cpr_blockers(cpr, print_blocker, NULL), "");
}

static void do_event(void)
{
	static const char *const names[] = {" event=none", " event=released", " event=disconnected",
					    " event=connected"};
	struct pollfd poller = {.fd = vfio_cpr_get_fd(cpr), .events = vfio_cpr_get_events(cpr)};
	enum vfio_cpr_event event = 0;
	int r;

	poll(&poller, 1, number(1));
	r = vfio_cpr_process(cpr, &event);
	answer(r, names[event]);
}

static void do_commit(void)
{
	answer(vfio_cpr_commit(cpr), "");
}

static void do_kick(void)
{
	answer(vfio_cpr_kick(cpr), "");
}

static void do_release(void)
{
	answer(vfio_cpr_release(cpr), "");
}

static void do_protected(void)
{
	answer(vfio_cpr_is_protected(cpr), "");
}

static void do_die(void)
{
	fflush(stdout);
	kill(getpid(), SIGKILL);
}

const struct command session_commands[] = {
	{"open", do_open, 2},
	{"attach", do_attach, 2},
	{"space", do_space, 3},
	{"memory", do_memory, 3},
	{"map", do_map, 7},
	{"unmap", do_unmap, 4},
	{"restore", do_restore, 2},
	{"mappings", do_mappings, 2},
	{"fill", do_fill, 5},
	{"check", do_check, 5},
	{"state-put", do_state_put, 3},
	{"state-get", do_state_get, 2},
	{"blockers", do_blockers, 1},
	{"event", do_event, 2},
	{"commit", do_commit, 1},
	{"kick", do_kick, 1},
	{"release", do_release, 1},
	{"protected", do_protected, 1},
	{"die", do_die, 1},
	{0},
};
