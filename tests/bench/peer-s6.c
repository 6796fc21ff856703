/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The peer s6-fdholder, asked through its own library over one connection: peer-s6 SOCKET N. By id,
 * and its dump.
 */
#include <s6/fdholder.h>
#include <skalibs/genalloc.h>
#include <skalibs/tai.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/bench.h"

#define S6_ROUNDS 5

static s6_fdholder_t s6 = S6_FDHOLDER_ZERO;

static bool s6_begin(const char *path)
{
	tain_now_set_stopwatch_g();
	tain_now_g();
	return s6_fdholder_start_g(&s6, path, &tain_infinite);
}

/* false: it takes or gives no more; then nothing is reported. */
static bool s6_by_id(const int *fds, int *back, size_t n)
{
	uint64_t start, stored, end;
	size_t i, got;
	char id[32];

	start = now_ns();
	for (i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "vector%zu", i);
		if (!s6_fdholder_store_g(&s6, fds[i], id, &tain_infinite, &tain_infinite))
			break;
	}
	stored = now_ns();
	for (got = 0; got < i; got++) {
		snprintf(id, sizeof(id), "vector%zu", got);
		back[got] = s6_fdholder_retrieve_g(&s6, id, &tain_infinite);
		if (back[got] < 0)
			break;
	}
	end = now_ns();
	close_all(back, got);
	if (i == n && got == n) {
		report_usec("store", n, "s6", start, stored);
		report_usec("fetch", n, "s6", stored, end);
	} else {
		fprintf(stderr, "s6-fdholder: stored %zu of %zu, gave back %zu\n", i, n, got);
	}
	return i == n && got == n;
}

static void s6_delete(size_t n)
{
	char id[32];

	for (size_t i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "vector%zu", i);
		s6_fdholder_delete_g(&s6, id, &tain_infinite);
	}
}

static void s6_dump(size_t n)
{
	genalloc dump = GENALLOC_ZERO;
	uint64_t start = now_ns(), end;
	size_t got = 0;
	bool ok = s6_fdholder_getdump_g(&s6, &dump, &tain_infinite);

	end = now_ns();
	if (ok) {
		got = genalloc_len(s6_fdholder_fd_t, &dump);
		for (size_t i = 0; i < got; i++)
			close(genalloc_s(s6_fdholder_fd_t, &dump)[i].fd);
	}
	if (got == n)
		report_usec("fetch", n, "s6-dump", start, end);
	else
		fprintf(stderr, "s6-fdholder: its dump of %zu descriptors gave %zu\n", n, got);
	genalloc_free(s6_fdholder_fd_t, &dump);
}

static void measure(const char *path, const int *fds, int *back, size_t n)
{
	bool goes_on = true;

	if (!s6_begin(path)) {
		fprintf(stderr, "s6-fdholder does not answer\n");
		return;
	}
	for (int round = 0; round < S6_ROUNDS && goes_on; round++) {
		goes_on = s6_by_id(fds, back, n);
		if (!goes_on || round < S6_ROUNDS - 1)
			s6_delete(n);
	}
	if (goes_on) {
		s6_dump(n); /* where it fails, the connection is lost with it */
		s6_fdholder_end(&s6);
		if (s6_begin(path))
			s6_delete(n);
	}
	s6_fdholder_end(&s6);
}

int main(int argc, char **argv)
{
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	int *fds = g_new(int, n), *back = g_new(int, n);

	raise_nofile();
	make_eventfds(fds, n);
	measure(argv[1], fds, back, n);
	return 0;
}
