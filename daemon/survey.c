/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The walk over a session's objects: daemon/survey.h. */
#include "daemon/survey.h"

#include <string.h>

#include "daemon/pending.h"
#include "daemon/session.h"

#define DEVICES_MAX_BYTES \
	(8 * 1024) /* of names that are told; of the other devices the number is */

void summary_clear(struct summary *summary)
{
	g_clear_pointer(&summary->devices, g_ptr_array_unref);
	*summary = (struct summary){0};
}

void survey_clear(struct survey *survey)
{
	summary_clear(&survey->sum);
	*survey = (struct survey){0};
}

static void add_device(struct summary *sum, const char *name)
{
	if (!sum->devices)
		sum->devices = g_ptr_array_new_with_free_func(g_free);
	sum->devices_bytes += strlen(name);
	if (sum->devices_bytes <= DEVICES_MAX_BYTES)
		g_ptr_array_add(sum->devices, g_strdup(name));
}

/* Counts what waits in these. */
static void look(struct survey *survey, const int *fds, guint n, unsigned int *cost)
{
	uint64_t counts[PENDING_AT_ONCE];

	pending_look(fds, n, counts, cost);
	for (guint i = 0; i < n; i++)
		survey->sum.pending += MIN(counts[i], (uint64_t)INT64_MAX - survey->sum.pending);
}

/* Adds the object's vectors to those that are to be looked at. true: it has no more. */
static bool gather_object(struct survey *survey, const struct object *object, int *fds, guint *n)
{
	if (object->kind == OBJECT_DEVICE)
		add_device(&survey->sum, object->name);
	if (object->kind != OBJECT_EVENTFD)
		return true;
	while (survey->vector < object->fds->len && *n < PENDING_AT_ONCE)
		fds[(*n)++] = g_array_index(object->fds, int, survey->vector++);
	return survey->vector >= object->fds->len;
}

/* The same with the objects from index i on. Returns that of the first one that has more. */
static guint gather(struct survey *survey, const GPtrArray *objects, guint i, int *fds, guint *n,
		    unsigned int *cost)
{
	for (; i < objects->len && *n < PENDING_AT_ONCE && *cost < SURVEY_COST_OF_TURN; i++) {
		const struct object *object = g_ptr_array_index(objects, i);

		if (object->serial != survey->object)
			survey->vector = 0; /* the one that was under way is gone */
		survey->object = object->serial;
		(*cost)++;
		if (!gather_object(survey, object, fds, n))
			break;
		survey->object++;
		survey->vector = 0;
	}
	return i;
}

static void finish(struct survey *survey, struct session *session)
{
	summary_clear(&session->summary);
	session->summary = survey->sum;
	session->summary.is_known = true;
	*survey = (struct survey){0};
}

bool survey_on(struct survey *survey, struct session *session, unsigned int *cost)
{
	const GPtrArray *objects = session->objects.objects;
	guint i;

	if (survey->session != session->serial) {
		survey_clear(survey);
		survey->session = session->serial;
	}
	i = object_set_index(&session->objects, survey->object);
	while (i < objects->len && *cost < SURVEY_COST_OF_TURN) {
		int fds[PENDING_AT_ONCE];
		guint n = 0;

		/* Of many objects at once: what costs is the call into the kernel. */
		i = gather(survey, objects, i, fds, &n, cost);
		if (n > 0)
			look(survey, fds, n, cost);
	}
	if (i < objects->len)
		return false;
	finish(survey, session);
	return true;
}
