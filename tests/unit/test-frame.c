/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Framing over real socket pairs: whole and split messages, and where descriptors may be. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/frame.h"
#include "tests/unit/suite.h"

static int ends[2]; /* the test writes into 0, the reader reads from 1 */
static struct frame_reader reader;
static struct fdlist fds;

static void setup(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	frame_reader_init(&reader, FRAME_MAX_BYTES, NULL, NULL);
	fds = (struct fdlist)FDLIST_INIT;
}

static void teardown(void)
{
	frame_reader_clear(&reader);
	fdlist_clear(&fds);
	close(ends[0]);
	close(ends[1]);
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Sends bytes and copies of one eventfd. */
static void put(const void *bytes, size_t size, size_t n_fds)
{
	union {
		char bytes[CMSG_SPACE(FRAME_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)bytes, size};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	int fd = eventfd(0, EFD_CLOEXEC);

	if (n_fds > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		for (size_t i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &fd, sizeof(int));
	}
	ck_assert_int_eq(sendmsg(ends[0], &header, MSG_NOSIGNAL), size);
	close(fd);
}

#define put_text(text, n_fds) put(text, sizeof(text) - 1, n_fds)

/* The next message, or NULL. */
static char *take(void)
{
	char *text = NULL;
	size_t size;

	if (frame_reader_take(&reader, &text, &size, &fds) == 0)
		return NULL;
	ck_assert_uint_eq(size, strlen(text));
	return text;
}

static void assert_takes(const char *want)
{
	char *text = take();

	if (want) {
		ck_assert_ptr_nonnull(text);
		ck_assert_str_eq(text, want);
	} else {
		ck_assert_ptr_null(text);
	}
	free(text);
}

START_TEST(a_whole_message_is_taken_without_its_nul)
{
	put_text("{}\0", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("{}");
	assert_takes(NULL);
}
END_TEST

START_TEST(nothing_there_is_eagain_and_a_closed_end_is_0)
{
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), -EAGAIN);
	shutdown(ends[0], SHUT_WR);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 0);
}
END_TEST

START_TEST(a_split_message_is_taken_when_it_is_whole)
{
	const char *parts[] = {"{\"meth", "od\":1", "}"};

	for (int i = 0; i < 3; i++) {
		put(parts[i], strlen(parts[i]), 0);
		ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
		assert_takes(NULL);
	}
	put_text("\0", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("{\"method\":1}");
}
END_TEST

START_TEST(glued_messages_without_descriptors_are_taken_in_order)
{
	put_text("a\0bb\0\0ccc\0d", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("a");
	assert_takes("bb");
	assert_takes("");
	assert_takes("ccc");
	assert_takes(NULL);
	put_text("d\0", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("dd");
}
END_TEST

START_TEST(descriptors_go_with_their_message_and_close_on_exec)
{
	put_text("a\0", 3);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("a");
	ck_assert_uint_eq(fds.n, 3);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(fcntl(fds.fds[i], F_GETFD), FD_CLOEXEC);
	put_text("b\0", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	fdlist_clear(&fds);
	assert_takes("b");
	ck_assert_uint_eq(fds.n, 0);
}
END_TEST

START_TEST(as_many_descriptors_as_the_kernel_passes_are_received)
{
	put_text("a\0", FRAME_MAX_FDS);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("a");
	ck_assert_uint_eq(fds.n, FRAME_MAX_FDS);
}
END_TEST

START_TEST(a_split_message_keeps_the_descriptors_of_its_start)
{
	put_text("a", 2);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes(NULL);
	ck_assert_uint_eq(fds.n, 0);
	put_text("b\0c\0", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("ab");
	ck_assert_uint_eq(fds.n, 2);
	fdlist_clear(&fds);
	assert_takes("c");
	ck_assert_uint_eq(fds.n, 0);
}
END_TEST

/* What comes first, and what then comes with a descriptor. */
static const struct {
	const char *first;
	size_t first_size, first_fds;
	bool received; /* between the two */
	const char *second;
	size_t second_size;
} violations[] = {
	{"a", 1, 0, true, "b\0", 2},	/* in the middle of a message */
	{"a", 1, 1, true, "b\0", 2},	/* on both its halves */
	{"a\0", 2, 0, false, "b\0", 2}, /* glued to one without */
	{"a\0b", 3, 0, true, "c\0", 2}, /* behind the start of another */
	{"a\0", 2, 0, true, "b\0", 2},	/* before the last was taken */
	{"a\0", 2, 1, true, "b\0", 2},	/* before the last's descriptors were taken */
	{"", 0, 0, false, "a\0b\0", 4}, /* with two messages */
	{"", 0, 0, false, "a\0b", 3},	/* with one and the start of another */
};

START_TEST(descriptors_in_any_other_place_are_a_violation_and_closed)
{
	int before = open_fds();

	if (violations[_i].first_size > 0)
		put(violations[_i].first, violations[_i].first_size, violations[_i].first_fds);
	if (violations[_i].received)
		ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	put(violations[_i].second, violations[_i].second_size, 2);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), -EBADMSG);
	frame_reader_clear(&reader);
	ck_assert_int_eq(open_fds(), before);
}
END_TEST

/* Takes the next message, of which there have to be n descriptors. */
static void assert_takes_with(const char *want, size_t n)
{
	assert_takes(want);
	ck_assert_uint_eq(fds.n, n);
	fdlist_clear(&fds);
}

START_TEST(of_a_writers_messages_each_gets_its_own_descriptors)
{
	int before = open_fds();

	reader.is_of_writer = true;
	put_text("a\0", 0); /* glued to the next */
	put_text("bb\0", 1);
	put_text("c", 2); /* in two pieces, the second glued to the next */
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes_with("a", 0);
	assert_takes_with("bb", 1);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes(NULL);
	put_text("cc\0", 0);
	put_text("dddd\0", 3);
	put_text("e\0", 4);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes_with("ccc", 2);
	assert_takes_with("dddd", 3);
	assert_takes(NULL);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes_with("e", 4);
	ck_assert_int_eq(open_fds(), before);
}
END_TEST

START_TEST(a_writers_messages_may_be_of_any_length)
{
	static char text[3][50000];
	static const size_t sizes[] = {4095, 4096, 4097, 10000, 50000};

	reader.is_of_writer = true;
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		size_t next = 0;

		for (int j = 0; j < 3; j++) {
			memset(text[j], 'a' + j, sizes[i] - 1);
			text[j][sizes[i] - 1] = '\0';
			put(text[j], sizes[i], j + 1);
		}
		while (next < 3) {
			ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
			for (char *taken; (taken = take()); next++) {
				ck_assert_str_eq(taken, text[next]);
				ck_assert_uint_eq(fds.n, next + 1);
				fdlist_clear(&fds);
				free(taken);
			}
		}
	}
}
END_TEST

START_TEST(not_even_a_writer_sends_descriptors_in_the_middle_of_a_message)
{
	int before = open_fds();

	reader.is_of_writer = true;
	put_text("a\0b", 1);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	put_text("b\0", 1);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), -EBADMSG);
	frame_reader_clear(&reader);
	ck_assert_int_eq(open_fds(), before);
}
END_TEST

START_TEST(descriptors_that_do_not_fit_are_enobufs_and_none_is_kept)
{
	struct rlimit limit, small;
	int before = open_fds();

	put_text("a\0", 100);
	getrlimit(RLIMIT_NOFILE, &limit);
	small = limit;
	small.rlim_cur = 40;
	setrlimit(RLIMIT_NOFILE, &small);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), -ENOBUFS);
	setrlimit(RLIMIT_NOFILE, &limit);
	ck_assert_int_eq(open_fds(), before);
}
END_TEST

static size_t closed;

static void count_closed(const int *list, size_t n, void *owner)
{
	*(size_t *)owner += n;
	for (size_t i = 0; i < n; i++)
		close(list[i]);
}

START_TEST(descriptors_are_closed_the_way_the_owner_says)
{
	frame_reader_init(&reader, FRAME_MAX_BYTES, count_closed, &closed);
	closed = 0;
	put_text("a\0b\0", 5);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), -EBADMSG);
	ck_assert_uint_eq(closed, 5);
	put_text("c", 4);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), -EBADMSG);
	frame_reader_clear(&reader);
	put_text("c", 4);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	frame_reader_clear(&reader);
	ck_assert_uint_eq(closed, 5 + 4 + 4);
}
END_TEST

/* Feeds n bytes and a NUL if told. Returns the first result that is not 1, or 1. */
static int feed(size_t n, bool nul)
{
	static char block[32768];
	int r = 1;

	memset(block, ' ', sizeof(block));
	while (n > 0 && r == 1) {
		size_t part = MIN(n, sizeof(block));

		put(block, part, 0);
		n -= part;
		r = frame_reader_receive(&reader, ends[1]);
	}
	if (r == 1 && nul) {
		put("", 1, 0);
		r = frame_reader_receive(&reader, ends[1]);
	}
	return r;
}

START_TEST(a_message_of_the_largest_size_is_taken_and_one_byte_more_is_not)
{
	char *text;

	ck_assert_int_eq(feed(FRAME_MAX_BYTES, true), 1);
	text = take();
	ck_assert_ptr_nonnull(text);
	ck_assert_uint_eq(strlen(text), FRAME_MAX_BYTES);
	free(text);
	ck_assert_int_eq(feed(FRAME_MAX_BYTES + 1, false), -EMSGSIZE);
}
END_TEST

START_TEST(a_reader_has_its_own_limit)
{
	frame_reader_init(&reader, 10, NULL, NULL);
	put_text("0123456789\0", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("0123456789");
	put_text("0123456789a", 0);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), -EMSGSIZE);
}
END_TEST

START_TEST(a_full_buffer_of_short_messages_is_not_too_long)
{
	static char many[60000]; /* of NULs: as many empty messages */
	char *text;
	size_t n = 0;

	frame_reader_init(&reader, 10, NULL, NULL);
	put(many, sizeof(many), 0);
	while (n < sizeof(many)) {
		ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
		for (; (text = take()); n++)
			free(text);
	}
	ck_assert_uint_eq(n, sizeof(many));
}
END_TEST

START_TEST(depth_is_counted_outside_of_strings)
{
	g_autoptr(GString) text = g_string_new(NULL);

	ck_assert(!frame_too_deep("", 0));
	ck_assert(!frame_too_deep("[]]]]", 5));
	for (int i = 0; i < FRAME_MAX_DEPTH; i++)
		g_string_append_c(text, i % 2 ? '[' : '{');
	ck_assert(!frame_too_deep(text->str, text->len));
	g_string_append(text, "\"[[[{{{\\\"[[[\"");
	ck_assert(!frame_too_deep(text->str, text->len));
	g_string_append_c(text, '[');
	ck_assert(frame_too_deep(text->str, text->len));
	/* A string that does not end, an escape as the last byte. */
	ck_assert(!frame_too_deep("\"[[", 3));
	ck_assert(!frame_too_deep("\"\\", 2));
	/* Beside one another is not in one another. */
	g_string_truncate(text, 0);
	for (int i = 0; i < 1000; i++)
		g_string_append(text, "[{}],");
	ck_assert(!frame_too_deep(text->str, text->len));
}
END_TEST

START_TEST(values_are_counted_outside_of_strings)
{
	g_autoptr(GString) text = g_string_new("[\"");

	for (int i = 0; i < FRAME_MAX_VALUES; i++)
		g_string_append(text, ",[{\\\"");
	g_string_append_c(text, '"');
	ck_assert(!frame_too_many(text->str, text->len));
	for (int i = 1; i < FRAME_MAX_VALUES; i++)
		g_string_append(text, ",0");
	ck_assert(!frame_too_many(text->str, text->len));
	g_string_append(text, ",0");
	ck_assert(frame_too_many(text->str, text->len));
	ck_assert(!frame_too_many("\"\\", 2));
}
END_TEST

START_TEST(what_is_written_arrives_with_its_descriptors_in_order)
{
	int list[FRAME_MAX_FDS];
	struct frame_writer writer = {0};

	for (int i = 0; i < FRAME_MAX_FDS; i++)
		list[i] = eventfd(i, EFD_CLOEXEC);
	frame_writer_set(&writer, strdup("{\"a\":1}"), list, FRAME_MAX_FDS);
	ck_assert_int_eq(frame_writer_send(&writer, ends[0]), 1);
	frame_writer_clear(&writer);
	ck_assert_int_eq(frame_reader_receive(&reader, ends[1]), 1);
	assert_takes("{\"a\":1}");
	ck_assert_uint_eq(fds.n, FRAME_MAX_FDS);
	for (int i = 0; i < FRAME_MAX_FDS; i++) {
		eventfd_t count = 0;

		if (i > 0) /* reading 0 would block */
			ck_assert_int_eq(eventfd_read(fds.fds[i], &count), 0);
		ck_assert_uint_eq(count, i);
		close(list[i]);
	}
}
END_TEST

START_TEST(a_full_socket_is_gone_on_with_and_descriptors_are_sent_once)
{
	size_t size = 900000;
	char *text = malloc(size + 1), *back;
	struct frame_writer writer = {0};
	int fd = eventfd(0, EFD_CLOEXEC), r, turns = 0;

	memset(text, 'x', size);
	text[size] = '\0';
	frame_writer_set(&writer, text, &fd, 1);
	do {
		r = frame_writer_send(&writer, ends[0]);
		ck_assert_int_ge(r, 0);
		while (frame_reader_receive(&reader, ends[1]) == 1)
			;
		turns++;
	} while (r == 0);
	ck_assert_int_gt(turns, 1);
	frame_writer_clear(&writer);
	back = take();
	ck_assert_ptr_nonnull(back);
	ck_assert_uint_eq(strlen(back), size);
	ck_assert_uint_eq(fds.n, 1);
	free(back);
	close(fd);
}
END_TEST

START_TEST(writing_to_a_closed_end_is_epipe_and_no_signal)
{
	struct frame_writer writer = {0};

	shutdown(ends[1], SHUT_RD);
	frame_writer_set(&writer, strdup("{}"), NULL, 0);
	ck_assert_int_eq(frame_writer_send(&writer, ends[0]), -EPIPE);
	frame_writer_clear(&writer);
}
END_TEST

START_TEST(a_list_closes_what_was_not_taken_out)
{
	int list[3], before = open_fds(), taken;

	for (int i = 0; i < 3; i++)
		list[i] = eventfd(0, EFD_CLOEXEC);
	fdlist_append(&fds, list, 3);
	taken = fdlist_take(&fds, 1);
	ck_assert_int_eq(taken, list[1]);
	ck_assert_int_eq(fdlist_take(&fds, 1), -1);
	ck_assert_int_eq(fdlist_take(&fds, 3), -1);
	fdlist_clear(&fds);
	ck_assert_uint_eq(fds.n, 0);
	ck_assert_int_eq(open_fds(), before + 1);
	close(taken);
	fdlist_append(&fds, NULL, 0);
	fdlist_clear(&fds);
}
END_TEST

SUITE("frame", setup, teardown)
{
	tcase_add_test(tests, a_whole_message_is_taken_without_its_nul);
	tcase_add_test(tests, nothing_there_is_eagain_and_a_closed_end_is_0);
	tcase_add_test(tests, a_split_message_is_taken_when_it_is_whole);
	tcase_add_test(tests, glued_messages_without_descriptors_are_taken_in_order);
	tcase_add_test(tests, descriptors_go_with_their_message_and_close_on_exec);
	tcase_add_test(tests, as_many_descriptors_as_the_kernel_passes_are_received);
	tcase_add_test(tests, a_split_message_keeps_the_descriptors_of_its_start);
	tcase_add_loop_test(tests, descriptors_in_any_other_place_are_a_violation_and_closed, 0,
			    G_N_ELEMENTS(violations));
	tcase_add_test(tests, of_a_writers_messages_each_gets_its_own_descriptors);
	tcase_add_test(tests, a_writers_messages_may_be_of_any_length);
	tcase_add_test(tests, not_even_a_writer_sends_descriptors_in_the_middle_of_a_message);
	tcase_add_test(tests, descriptors_that_do_not_fit_are_enobufs_and_none_is_kept);
	tcase_add_test(tests, descriptors_are_closed_the_way_the_owner_says);
	tcase_add_test(tests, a_message_of_the_largest_size_is_taken_and_one_byte_more_is_not);
	tcase_add_test(tests, a_reader_has_its_own_limit);
	tcase_add_test(tests, a_full_buffer_of_short_messages_is_not_too_long);
	tcase_add_test(tests, depth_is_counted_outside_of_strings);
	tcase_add_test(tests, values_are_counted_outside_of_strings);
	tcase_add_test(tests, what_is_written_arrives_with_its_descriptors_in_order);
	tcase_add_test(tests, a_full_socket_is_gone_on_with_and_descriptors_are_sent_once);
	tcase_add_test(tests, writing_to_a_closed_end_is_epipe_and_no_signal);
	tcase_add_test(tests, a_list_closes_what_was_not_taken_out);
}
