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

/* Goes on with the object. true: it has been looked at. */
static bool survey_object(struct survey *survey, const struct object *object, unsigned int *cost)
{
	uint64_t counts[PENDING_AT_ONCE];

	(*cost)++;
	if (object->kind == OBJECT_DEVICE)
		add_device(&survey->sum, object->name);
	if (object->kind != OBJECT_EVENTFD)
		return true;
	while (survey->vector < object->fds->len) {
		guint n = pending_look(object, survey->vector, counts, cost);

		survey->vector += n;
		for (guint i = 0; i < n; i++)
			survey->sum.pending +=
				MIN(counts[i], (uint64_t)INT64_MAX - survey->sum.pending);
		if (*cost >= SURVEY_COST_OF_TURN)
			break;
	}
	return survey->vector >= object->fds->len;
}

bool survey_on(struct survey *survey, struct session *session, unsigned int *cost)
{
	const GPtrArray *objects = session->objects.objects;
	guint i;

	if (survey->session != session->serial) {
		survey_clear(survey);
		survey->session = session->serial;
	}
	for (i = object_set_index(&session->objects, survey->object); i < objects->len; i++) {
		const struct object *object = g_ptr_array_index(objects, i);

		if (object->serial != survey->object)
			survey->vector = 0; /* the one that was under way is gone */
		survey->object = object->serial;
		if (*cost >= SURVEY_COST_OF_TURN || !survey_object(survey, object, cost))
			return false;
		survey->object++;
		survey->vector = 0;
	}
	summary_clear(&session->summary);
	session->summary = survey->sum;
	session->summary.is_known = true;
	*survey = (struct survey){0};
	return true;
}
