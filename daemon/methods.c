/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding the method of a call, org.varlink.service, and what the methods share. */
#include "daemon/methods.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "common/interfaces.h"
#include "common/unpack.h"
#include "common/version.h"
#include "daemon/keep.h"
#include "daemon/peer.h"
#include "daemon/server.h"
#include "daemon/session.h"

static const struct method {
	const char *name;
	void (*call)(struct peer *peer);
	bool takes_fds;
} methods[] = {
	{"org.varlink.service.GetInfo", method_get_info, false},
	{"org.varlink.service.GetInterfaceDescription", method_get_interface_description, false},
	{"io.vfiocpr.Session.Attach", method_attach, false},
	{"io.vfiocpr.Session.Store", method_store, true},
	{"io.vfiocpr.Session.Fetch", method_fetch, false},
	{"io.vfiocpr.Session.Remove", method_remove, false},
	{"io.vfiocpr.Session.Commit", method_commit, false},
	{"io.vfiocpr.Session.Release", method_release, false},
	{"io.vfiocpr.Session.List", method_list, false},
	{"io.vfiocpr.Session.Show", method_show, false},
	{"io.vfiocpr.Session.Mappings", method_mappings, false},
	{"io.vfiocpr.Session.Monitor", method_monitor, false},
	{"io.vfiocpr.Session.Status", method_status, false},
};

static const struct {
	const char *name, *description;
} interfaces[] = {
	{"org.varlink.service", interface_org_varlink_service},
	{"io.vfiocpr.Session", interface_io_vfiocpr_session},
};

void methods_dispatch(struct peer *peer)
{
	const char *name = peer->call.method, *dot = strrchr(name, '.');

	for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
		if (strcmp(methods[i].name, name) != 0)
			continue;
		if (peer->call.fds.n > 0 && !methods[i].takes_fds)
			peer_invalid(peer, "fileDescriptors", "this method takes no descriptors");
		else
			methods[i].call(peer);
		return;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(interfaces); i++)
		if (dot && strlen(interfaces[i].name) == (size_t)(dot - name) &&
		    strncmp(interfaces[i].name, name, dot - name) == 0) {
			peer_fail_service(peer, "MethodNotFound",
					  json_pack("{s:s}", "method", name));
			return;
		}
	peer_fail_service(
		peer, "InterfaceNotFound",
		json_pack("{s:s%}", "interface", name, dot ? (size_t)(dot - name) : strlen(name)));
}

bool method_unpack(struct peer *peer, const char *format, ...)
{
	json_error_t error;
	va_list arguments;
	int r;

	va_start(arguments, format);
	r = json_vunpack_ex(peer->call.parameters, &error, 0, format, arguments);
	va_end(arguments);
	if (r < 0) {
		g_autofree char *field = NULL, *problem = unpack_explain(&error, &field);

		peer_invalid(peer, field ? field : "parameters", problem);
	}
	return r == 0;
}

bool method_owner(struct peer *peer, const json_t *json, uid_t *ret_uid)
{
	json_int_t uid = json_integer_value(json);

	if (!json)
		return true;
	if (!json_is_integer(json) || uid < 0 || uid >= (json_int_t)NO_UID) {
		peer_invalid(peer, "uid", "a uid is a number from 0 to 4294967294");
		return false;
	}
	if (!peer_may(peer, uid)) {
		peer_forbid(peer, uid);
		return false;
	}
	*ret_uid = uid;
	return true;
}

struct session *method_find_session(struct peer *peer, const char *name, const json_t *owner)
{
	struct session *session;
	uid_t uid = NO_UID;
	bool many = false;

	if (!method_owner(peer, owner, &uid))
		return NULL;
	session = uid != NO_UID ? server_find_session(peer->server, uid, name)
				: server_search_session(peer->server, peer, name, &many);
	if (!session && many)
		peer_fail(peer, "NoSuchSession", 0,
			  "several users have a session %s: say whose, by uid", name);
	else if (!session)
		peer_fail(
			peer, "NoSuchSession", 0,
			"there is no session %s that you may see: \"vfio-cprctl list\" tells which "
			"there are",
			name);
	return session;
}

struct session *method_held_session(struct peer *peer)
{
	struct session *session = peer->session;

	if (!session) {
		peer_fail(peer, "NotHolder", 0, "this connection holds no session: Attach first");
		return NULL;
	}
	if (session->busy) {
		session_wait(session, peer);
		return NULL;
	}
	return session;
}

bool method_keep_and_repeat(struct peer *peer, struct session *session)
{
	if (peer->call.begun)
		return false;
	peer->call.begun = true;
	keep_anew(session, NULL);
	session_wait(session, peer);
	return true;
}

void method_fail_unkept(struct peer *peer, const struct session *session)
{
	peer_fail(
		peer, "KernelFailure", EIO,
		"session %s: the change is made, but could not be kept in its journal, so that the "
		"daemon's death would undo it: look into the daemon's log, then repeat it",
		session->name);
}

void method_get_info(struct peer *peer)
{
	json_t *names = json_array();

	if (!method_unpack(peer, "{!}")) {
		json_decref(names);
		return;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(interfaces); i++)
		json_array_append_new(names, json_string(interfaces[i].name));
	peer_reply(peer,
		   json_pack("{s:s, s:s, s:s, s:s, s:o}", "vendor", "vfio-cprd", "product",
			     "vfio-cprd", "version", VFIO_CPRD_VERSION, "url", "", "interfaces",
			     names),
		   NULL, 0);
}

void method_get_interface_description(struct peer *peer)
{
	const char *name;

	if (!method_unpack(peer, "{s:s !}", "interface", &name))
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(interfaces); i++)
		if (strcmp(interfaces[i].name, name) == 0) {
			peer_reply(peer,
				   json_pack("{s:s}", "description", interfaces[i].description),
				   NULL, 0);
			return;
		}
	peer_fail_service(peer, "InterfaceNotFound", json_pack("{s:s}", "interface", name));
}
