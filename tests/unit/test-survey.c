/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A survey of a session that is left and gone on with, while the session changes. */
#include <glib.h>
#include <sys/eventfd.h>

#include "daemon/session.h"
#include "daemon/survey.h"
#include "tests/unit/suite.h"

static struct session session;
static struct survey survey;

static void setup(void)
{
	session = (struct session){.serial = 7};
	survey = (struct survey){0};
	object_set_init(&session.objects, NULL);
}

static void teardown(void)
{
	survey_clear(&survey);
	summary_clear(&session.summary);
}

/* n eventfds, each of which has an interrupt that waits. */
static struct object *add_eventfds(const char *name, int64_t id, int n)
{
	struct object *object = g_new0(struct object, 1);

	object->kind = OBJECT_EVENTFD;
	object->name = g_strdup(name);
	object->id = id;
	object->fds = g_array_new(FALSE, FALSE, sizeof(int));
	for (int i = 0; i < n; i++) {
		int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

		ck_assert_int_ge(fd, 0);
		g_array_append_val(object->fds, fd);
	}
	object->held = n;
	object_set_add(&session.objects, object);
	return object;
}

static void remove_object(struct object *object)
{
	struct fdlist fds = FDLIST_INIT;

	object_set_remove(&session.objects, object);
	object_take_all(object, &fds);
	fdlist_clear(&fds);
	object_free(object);
}

/* A turn. Whether the survey is done. */
static bool take_turn(void)
{
	unsigned int cost = 0;
	bool done = survey_on(&survey, &session, &cost);

	ck_assert_uint_gt(cost, 0);
	ck_assert_uint_le(cost, 2 * SURVEY_COST_OF_TURN);
	return done;
}

START_TEST(little_is_done_in_one_turn)
{
	add_eventfds("a", 1, 3);
	add_eventfds("b", 2, 4);
	ck_assert(!session.summary.is_known);
	ck_assert(take_turn());
	ck_assert(session.summary.is_known);
	ck_assert_uint_eq(session.summary.pending, 7);
}
END_TEST

START_TEST(much_is_done_in_several_and_each_is_looked_at_once)
{
	int turns = 1;

	add_eventfds("a", 1, 500);
	add_eventfds("b", 2, 1);
	add_eventfds("c", 3, 400);
	while (!take_turn())
		turns++;
	ck_assert_int_ge(turns, 3);
	ck_assert_uint_eq(session.summary.pending, 901);
	/* And the next one begins anew. */
	while (!take_turn())
		;
	ck_assert_uint_eq(session.summary.pending, 901);
}
END_TEST

START_TEST(many_objects_of_one_are_several_turns_too)
{
	int turns = 1;

	for (int i = 0; i < 400; i++) {
		g_autofree char *name = g_strdup_printf("object%d", i);

		add_eventfds(name, i + 1, 1);
	}
	while (!take_turn())
		turns++;
	ck_assert_int_ge(turns, 4);
	ck_assert_uint_eq(session.summary.pending, 400);
}
END_TEST

START_TEST(an_object_that_goes_between_turns_hides_no_other)
{
	struct object *gone = add_eventfds("a", 1, 600);

	add_eventfds("b", 2, 10);
	ck_assert(!take_turn());
	remove_object(gone);
	add_eventfds("c", 3, 5);
	ck_assert(take_turn());
	/* What was seen of the one that has gone stays in the sum. */
	ck_assert_uint_gt(session.summary.pending, 15);
	ck_assert_uint_lt(session.summary.pending, 600);
	ck_assert(take_turn());
	ck_assert_uint_eq(session.summary.pending, 15);
}
END_TEST

START_TEST(another_session_of_that_name_begins_a_new_one)
{
	struct object *gone = add_eventfds("a", 1, 600);

	ck_assert(!take_turn());
	remove_object(gone);
	add_eventfds("a", 1, 2);
	session.serial++;
	ck_assert(take_turn());
	ck_assert_uint_eq(session.summary.pending, 2);
}
END_TEST

SUITE("survey", setup, teardown)
{
	tcase_add_test(tests, little_is_done_in_one_turn);
	tcase_add_test(tests, much_is_done_in_several_and_each_is_looked_at_once);
	tcase_add_test(tests, many_objects_of_one_are_several_turns_too);
	tcase_add_test(tests, an_object_that_goes_between_turns_hides_no_other);
	tcase_add_test(tests, another_session_of_that_name_begins_a_new_one);
}
