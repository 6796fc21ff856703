/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attaching, over the daemon's death: the daemon is a connection that answers as it is told to, in
 * place of client/connection.c. How messages look is tests/proto's business.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "client/cpr.h"
#include "tests/unit/suite.h"

/* One call's answer: its error, or its parameters. */
struct reply {
	int error;
	const char *name; /* of an error answer */
	const char *json; /* NULL: {} */
};

#define LOST                            \
	{                               \
		-ECONNRESET, NULL, NULL \
	}

static struct reply replies[8];
static size_t n_calls;
static int connections;
static GString *calls; /* "Attach, Store" */
static struct vfio_cpr *cpr;

struct connection {
	int unused;
};

void call_error_clear(struct call_error *error)
{
	free(error->message);
	*error = (struct call_error){0};
}

int connection_open(const char *path, int timeout_msec, struct connection **ret_connection)
{
	(void)path;
	(void)timeout_msec;
	connections++;
	*ret_connection = g_new0(struct connection, 1);
	return 0;
}

void connection_close(struct connection *connection)
{
	if (connection)
		connections--;
	g_free(connection);
}

int connection_fd(const struct connection *connection)
{
	(void)connection;
	return -1;
}

/* Takes the next reply for the method called. */
static int answer(const char *method, json_t *parameters, json_t **ret_parameters,
		  struct call_error *ret_error)
{
	const struct reply *reply = &replies[n_calls++];

	ck_assert_uint_le(n_calls, G_N_ELEMENTS(replies));
	json_decref(parameters);
	g_string_append_printf(calls, "%s%s", calls->len ? ", " : "", strrchr(method, '.') + 1);
	if (reply->name)
		g_strlcpy(ret_error->name, reply->name, sizeof(ret_error->name));
	if (reply->error == 0 && ret_parameters)
		*ret_parameters = json_loads(reply->json ? reply->json : "{}", 0, NULL);
	return reply->error;
}

int connection_call(struct connection *connection, const char *method, json_t *parameters,
		    const int *fds, size_t n_fds, int timeout_msec, json_t **ret_parameters,
		    struct fdlist *ret_fds, struct call_error *ret_error)
{
	(void)connection;
	(void)fds;
	(void)n_fds;
	(void)timeout_msec;
	(void)ret_fds;
	return answer(method, parameters, ret_parameters, ret_error);
}

static char more[64];

int connection_call_more(struct connection *connection, const char *method, json_t *parameters)
{
	(void)connection;
	g_strlcpy(more, method, sizeof(more));
	json_decref(parameters);
	return 0;
}

int connection_next(struct connection *connection, int timeout_msec, json_t **ret_parameters,
		    struct fdlist *ret_fds, bool *ret_continues, struct call_error *ret_error)
{
	int r = answer(more, NULL, ret_parameters, ret_error);

	(void)connection;
	(void)timeout_msec;
	(void)ret_fds;
	if (ret_continues)
		*ret_continues = false;
	return r < 0 ? r : 1;
}

static void setup(void)
{
	calls = g_string_new(NULL);
	ck_assert_int_eq(vfio_cpr_open("/fake", 0, &cpr), 0);
}

static void teardown(void)
{
	vfio_cpr_close(cpr);
	ck_assert_int_eq(connections, 0);
	g_string_free(calls, TRUE);
}

#define NEW	   VFIO_CPR_START_NEW
#define CLAIMED	   VFIO_CPR_START_CLAIMED
#define RESUMED	   VFIO_CPR_START_RESUMED
#define EMPTY	   "{\"objects\":[]}"
#define IS(start)  "{\"start\":\"" start "\",\"objects\":0}"
#define HAS(start) "{\"start\":\"" start "\",\"objects\":3}"

static const struct {
	struct reply replies[4];
	int result;
	enum vfio_cpr_start start;
	const char *calls;
} attaches[] = {
	{{{.json = IS("new")}}, 0, NEW, "Attach"},
	{{{.json = HAS("claimed")}, {.json = EMPTY}}, 0, CLAIMED, "Attach, Fetch"},
	{{{.json = IS("claimed")}, {.json = EMPTY}}, 0, CLAIMED, "Attach, Fetch"},
	{{{.json = HAS("resumed")}, {.json = EMPTY}}, 0, RESUMED, "Attach, Fetch"},
	/* the first try took effect and its answer was lost: what it was is told all the same */
	{{LOST, {.json = IS("new")}}, 0, NEW, "Attach, Attach"},
	{{LOST, {.json = IS("resumed")}}, 0, NEW, "Attach, Attach"},
	{{LOST, {.json = HAS("resumed")}, {.json = EMPTY}}, 0, CLAIMED, "Attach, Attach, Fetch"},
	{{LOST, {.json = HAS("claimed")}, {.json = EMPTY}}, 0, CLAIMED, "Attach, Attach, Fetch"},
	{{LOST, LOST, {.json = IS("resumed")}}, 0, NEW, "Attach, Attach, Attach"},
	/* what is no such answer */
	{{{.json = "{}"}}, -EPROTO, NEW, "Attach"},
	{{{.json = IS("old")}}, -EPROTO, NEW, "Attach"},
	{{{.json = "{\"start\":1}"}}, -EPROTO, NEW, "Attach"},
	{{{.json = HAS("claimed")}, {.json = "{\"objects\":[{}]}"}}, -EPROTO, NEW, "Attach, Fetch"},
	/* a refusal is no reason to try again */
	{{{.error = -EBUSY, .name = "Busy"}}, -EBUSY, NEW, "Attach"},
	{{LOST, {.error = -EBUSY, .name = "Busy"}}, -EBUSY, NEW, "Attach, Attach"},
};

START_TEST(attaching_tells_how_it_began)
{
	enum vfio_cpr_start start = NEW;

	memcpy(replies, attaches[_i].replies, sizeof(attaches[_i].replies));
	ck_assert_int_eq(vfio_cpr_attach(cpr, "vm", &start), attaches[_i].result);
	ck_assert_int_eq(start, attaches[_i].start);
	ck_assert_str_eq(calls->str, attaches[_i].calls);
	/* Who failed can attach again; who did not cannot. */
	ck_assert_int_eq(!cpr->session, attaches[_i].result < 0);
}
END_TEST

/* Of a session with one object a call is lost: what is done on the new connection. */
static const struct {
	struct reply replies[4]; /* from the lost one on */
	int result;
	const char *calls;
} resumes[] = {
	{{LOST, {.json = IS("resumed")}, {0}}, 0, "Commit, Attach, Commit"},
	{{LOST, {.json = IS("new")}, {0}, {0}}, 0, "Commit, Attach, Store, Commit"},
	{{LOST, LOST, {.json = IS("resumed")}, {0}}, 0, "Commit, Attach, Attach, Commit"},
	{{LOST, {.error = -EBUSY, .name = "Busy"}}, -EBUSY, "Commit, Attach"},
	{{LOST, {.json = "{}"}}, -EPROTO, "Commit, Attach"},
	{{{.error = -EACCES, .name = "NotHolder"}}, -ENOENT, "Commit"},
};

START_TEST(a_lost_call_is_repeated_when_the_session_is_resumed)
{
	struct vfio_cpr_memory *ram;

	replies[0] = (struct reply){.json = IS("new")};
	ck_assert_int_eq(vfio_cpr_attach(cpr, "vm", NULL), 0);
	ck_assert_int_eq(vfio_cpr_memory_get(cpr, "ram", 0x100000, 0, &ram), 0);
	ck_assert_str_eq(calls->str, "Attach, Store");
	g_string_truncate(calls, 0);
	memcpy(replies + n_calls, resumes[_i].replies, sizeof(resumes[_i].replies));
	ck_assert_int_eq(vfio_cpr_commit(cpr), resumes[_i].result);
	ck_assert_str_eq(calls->str, resumes[_i].calls);
}
END_TEST

SUITE("attach", setup, teardown)
{
	tcase_add_loop_test(tests, attaching_tells_how_it_began, 0, G_N_ELEMENTS(attaches));
	tcase_add_loop_test(tests, a_lost_call_is_repeated_when_the_session_is_resumed, 0,
			    G_N_ELEMENTS(resumes));
}
