/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which session has which PCI device: daemon/devices.h. */
#include "daemon/devices.h"

#include "daemon/namehash.h"
#include "daemon/object.h"
#include "daemon/opaque.h"
#include "daemon/server.h"
#include "daemon/session.h"

GHashTable *devices_new(void)
{
	return g_hash_table_new_full(namehash, g_str_equal, g_free, NULL);
}

void devices_take_closing(struct server *server, struct session *session, const char *name)
{
	g_hash_table_replace(server->devices, g_strdup(name), session);
}

void devices_take(struct server *server, struct session *session, const struct object_set *set)
{
	for (guint i = 0; i < set->objects->len; i++) {
		const struct object *object = g_ptr_array_index(set->objects, i);

		if (object->kind == OBJECT_DEVICE)
			devices_take_closing(server, session, object->name);
	}
}

void devices_take_opaque(struct server *server, struct session *session)
{
	g_autoptr(GPtrArray) names = opaque_list_devices(session->opaque);

	for (guint i = 0; i < names->len; i++)
		if (!devices_holder(server, g_ptr_array_index(names, i)))
			devices_take_closing(server, session, g_ptr_array_index(names, i));
}

struct session *devices_holder(const struct server *server, const char *name)
{
	return g_hash_table_lookup(server->devices, name);
}

static gboolean is_closed(gpointer name, gpointer value, gpointer data)
{
	const struct session *session = data;

	return value == session && !object_set_find(&session->objects, OBJECT_DEVICE, name);
}

void devices_drop_closed(struct server *server, struct session *session)
{
	g_hash_table_foreach_remove(server->devices, is_closed, session);
	devices_take_opaque(server, session);
}

static gboolean is_of_session(gpointer key, gpointer value, gpointer session)
{
	(void)key;
	return value == session;
}

void devices_drop_all(struct server *server, const struct session *session)
{
	g_hash_table_foreach_remove(server->devices, is_of_session, (gpointer)session);
}
