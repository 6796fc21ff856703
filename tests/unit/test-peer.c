/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each call has an answer, also where the answer cannot be put into words (daemon/peer.h). */
#include "daemon/peer.h"

#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/account.h"
#include "daemon/server.h"
#include "daemon/worker.h"
#include "tests/unit/suite.h"

static struct event_base *base;
static struct server *server;
static struct peer *peer;
static int other;

static void reply_nothing(struct peer *who)
{
	peer_reply(who, NULL, &other, 1);
}

static void reply_more_of_nothing(struct peer *who)
{
	peer_reply_more(who, NULL, NULL, 0, reply_nothing);
}

static void refuse_with_nothing(struct peer *who)
{
	peer_fail_service(who, "InvalidParameter", NULL);
}

static void fail_with_bytes(struct peer *who)
{
	peer_fail(who, "Refused", 1, "what is \xff and \xc3");
}

static void fail_at_length(struct peer *who)
{
	g_autofree char *name = g_strnfill(1 << 20, 'x');

	memcpy(name + 1023, "\xc3\xa9", 2); /* one character over the place where it is cut */
	peer_fail(who, "Refused", 1, "%s", name);
}

static void fail_as_unknown(struct peer *who)
{
	peer_unknown(who, "method", who->call.method, strlen(who->call.method));
}

static void stream_nothing(struct peer *who)
{
	peer_stream(who, NULL);
}

static void setup(void)
{
	int ends[2];
	struct peer_identity identity = {.pid = getpid(), .pidfd = -1};

	base = event_base_new();
	ck_assert_int_eq(worker_start(base), 0);
	server = server_new(base, NULL);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	identity.socket = ends[0];
	identity.account = account_get(1);
	other = ends[1];
	peer = peer_new(server, &identity);
	g_hash_table_add(server->peers, peer);
}

static void teardown(void)
{
	server_free(server);
	worker_stop();
	event_base_free(base);
	close(other);
}

/* Sends a call, which the function answers; returns that answer. */
static json_t *call(void (*function)(struct peer *peer), const char *message)
{
	static char buffer[8192];
	ssize_t n = -1;
	json_t *answer;

	server->call = function;
	ck_assert_int_eq(write(other, message, strlen(message) + 1), strlen(message) + 1);
	while (n < 0) {
		event_base_loop(base, EVLOOP_ONCE);
		n = read(other, buffer, sizeof(buffer));
	}
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(buffer[n - 1], '\0');
	ck_assert_uint_eq(strlen(buffer), n - 1);
	answer = json_loads(buffer, 0, NULL);
	ck_assert_ptr_nonnull(answer);
	return answer;
}

static void assert_error(json_t *answer, const char *name)
{
	ck_assert_str_eq(json_string_value(json_object_get(answer, "error")), name);
	ck_assert(!json_object_get(answer, "continues"));
	json_decref(answer);
}

#define CALL	      "{\"method\":\"a.b\"}"
#define CANNOT_ANSWER "io.vfiocpr.Session.KernelFailure"

START_TEST(an_answer_that_cannot_be_made_is_an_error)
{
	assert_error(call(reply_nothing, CALL), CANNOT_ANSWER);
	assert_error(call(refuse_with_nothing, CALL), CANNOT_ANSWER);
	assert_error(call(reply_more_of_nothing, CALL), CANNOT_ANSWER);
	/* And the connection goes on. */
	assert_error(call(fail_with_bytes, CALL), "io.vfiocpr.Session.Refused");
}
END_TEST

START_TEST(an_event_that_cannot_be_made_ends_the_call)
{
	char byte;

	assert_error(call(stream_nothing, CALL), CANNOT_ANSWER);
	ck_assert_int_eq(read(other, &byte, 1), 0);
}
END_TEST

START_TEST(what_is_no_utf8_is_told_as_far_as_it_is)
{
	json_t *answer = call(fail_with_bytes, CALL);
	json_t *message = json_object_get(json_object_get(answer, "parameters"), "message");

	ck_assert(g_str_has_prefix(json_string_value(message), "what is "));
	json_decref(answer);
}
END_TEST

START_TEST(what_is_long_is_cut_between_two_characters)
{
	json_t *answer = call(fail_at_length, CALL);
	json_t *message = json_object_get(json_object_get(answer, "parameters"), "message");

	ck_assert_uint_eq(json_string_length(message), 1023 + strlen("..."));
	ck_assert(g_str_has_suffix(json_string_value(message), "x..."));
	json_decref(answer);
}
END_TEST

START_TEST(a_name_of_a_megabyte_is_not_told_back)
{
	g_autofree char *name = g_strnfill(100000, 'm');
	g_autofree char *message = g_strdup_printf("{\"method\":\"a.%s\"}", name);
	json_t *answer = call(fail_as_unknown, message);
	json_t *method = json_object_get(json_object_get(answer, "parameters"), "method");

	ck_assert_uint_lt(json_string_length(method), 1100);
	assert_error(answer, "org.varlink.service.MethodNotFound");
}
END_TEST

static bool is_closed(void)
{
	char byte;

	return recv(other, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Also if all who had the other end are dead, and it is in that message. */
START_TEST(a_message_without_an_end_ends_the_connection)
{
	static char buffer[1024];

	peer_unfinished_usec = 1000;
	ck_assert_int_eq(write(other, "{", 1), 1);
	while (read(other, buffer, sizeof(buffer)) <= 0)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_ptr_nonnull(strstr(buffer, "io.vfiocpr.Session.ProtocolViolation"));
	ck_assert(is_closed());
	peer_unfinished_usec = 60 * G_USEC_PER_SEC;
}
END_TEST

/* The time is that of one message, and there is none between two. */
START_TEST(a_message_that_has_come_ends_the_wait_for_it)
{
	ck_assert_int_eq(write(other, "{", 1), 1);
	while (!event_pending(peer->overdue, EV_TIMEOUT, NULL))
		event_base_loop(base, EVLOOP_ONCE);
	json_decref(call(fail_with_bytes, CALL + 1));
	ck_assert(!event_pending(peer->overdue, EV_TIMEOUT, NULL));
	ck_assert(!is_closed());
}
END_TEST

SUITE("peer", setup, teardown)
{
	tcase_add_test(tests, a_message_without_an_end_ends_the_connection);
	tcase_add_test(tests, a_message_that_has_come_ends_the_wait_for_it);
	tcase_add_test(tests, an_answer_that_cannot_be_made_is_an_error);
	tcase_add_test(tests, an_event_that_cannot_be_made_ends_the_call);
	tcase_add_test(tests, what_is_no_utf8_is_told_as_far_as_it_is);
	tcase_add_test(tests, what_is_long_is_cut_between_two_characters);
	tcase_add_test(tests, a_name_of_a_megabyte_is_not_told_back);
}
