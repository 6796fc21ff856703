/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a message to a call: daemon/call.h. */
#include "daemon/call.h"

#include <glib.h>
#include <string.h>

#include "common/frame.h"
#include "common/unpack.h"
#include "daemon/look.h"

/* Varlink: a nullable field that is null is one that is not there. */
static void drop_nulls(json_t *json)
{
	json_t *value;
	const char *key;
	size_t i;
	void *next;

	if (json_is_object(json)) {
		json_object_foreach_safe(json, next, key, value)
		{
			if (json_is_null(value))
				json_object_del(json, key);
			else
				drop_nulls(value);
		}
	} else {
		json_array_foreach(json, i, value) drop_nulls(value);
	}
}

/* The name of a field that is not understood, or asks for what is not; NULL: there is none. */
static const char *find_unknown(json_t *message)
{
	static const char *const known[] = {"method", "parameters", "more", "oneway", NULL};
	const char *key;
	json_t *value;

	json_object_foreach(message, key, value)
	{
		/* Not to be upgraded is what every connection is. */
		if (strcmp(key, "upgrade") == 0 && json_is_false(value))
			continue;
		if (!g_strv_contains(known, key))
			return key;
	}
	return NULL;
}

char *call_parse(struct call *call, const char *text, size_t size)
{
	json_auto_t *message = NULL;
	json_t *parameters = NULL;
	json_error_t error;
	const char *method;
	int more = 0, oneway = 0, upgrade = 0;

	if (frame_too_deep(text, size))
		return g_strdup_printf("the message nests deeper than %d", FRAME_MAX_DEPTH);
	if (frame_too_many(text, size))
		return g_strdup_printf("the message has more than %d values", FRAME_MAX_VALUES);
	message = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	if (!message)
		return g_strdup_printf("the message is not JSON: %s at byte %d", error.text,
				       error.position);
	drop_nulls(message);
	if (json_unpack_ex(message, &error, 0, "{s:s, s?o, s?b, s?b, s?b}", "method", &method,
			   "parameters", &parameters, "more", &more, "oneway", &oneway, "upgrade",
			   &upgrade) < 0) {
		g_autofree char *field = NULL, *problem = unpack_explain(&error, &field);

		return g_strdup_printf("the message is no Varlink call: %s", problem);
	}
	if (parameters && !json_is_object(parameters))
		return g_strdup("the message is no Varlink call: its parameters are no object");
	call->method = g_strdup(method);
	call->parameters = parameters ? json_incref(parameters) : json_object();
	call->more = more && !oneway;
	call->oneway = oneway;
	call->unknown_field = g_strdup(find_unknown(message));
	return NULL;
}

void call_clear(struct call *call)
{
	g_clear_pointer(&call->method, g_free);
	g_free(call->unknown_field);
	json_decref(call->parameters);
	look_drop(call->look);
	fdlist_clear(&call->fds);
	if (call->state)
		call->free_state(call->state);
	*call = (struct call){.fds = call->fds};
}
