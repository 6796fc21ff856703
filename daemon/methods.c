/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding the method of a call, and org.varlink.service. */
#include "daemon/methods.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "common/interfaces.h"
#include "common/version.h"
#include "daemon/peer.h"
#include "daemon/surroundings.h"

#define SESSION_INTERFACE "io.vfiocpr.Session."

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

/* Sessions are told apart by their owners. One whom the daemon cannot tell from others has none. */
static bool refuse_stranger(struct peer *peer)
{
	if (!g_str_has_prefix(peer->call.method, SESSION_INTERFACE) ||
	    !surroundings_blur(peer->uid))
		return false;
	peer_fail(
		peer, "Refused", EPERM,
		"uid %u is every user that the daemon's user namespace does not know, and what is "
		"whose cannot be told: run vfio-cprd in the user namespace of the host, not under "
		"PrivateUsers= nor in a container with user ids of its own",
		peer->uid);
	return true;
}

void methods_dispatch(struct peer *peer)
{
	const char *name = peer->call.method, *dot = strrchr(name, '.');

	if (peer->call.unknown_field) {
		peer_invalid(peer, peer->call.unknown_field,
			     "it is not understood beside method, parameters, more and oneway, "
			     "so nothing was done: leave it out");
		return;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
		if (strcmp(methods[i].name, name) != 0)
			continue;
		if (refuse_stranger(peer))
			return;
		if (peer->call.fds.n > 0 && !methods[i].takes_fds)
			peer_invalid(peer, "fileDescriptors", "this method takes no descriptors");
		else
			methods[i].call(peer);
		return;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(interfaces); i++)
		if (dot && strlen(interfaces[i].name) == (size_t)(dot - name) &&
		    strncmp(interfaces[i].name, name, dot - name) == 0) {
			peer_unknown(peer, "method", name, strlen(name));
			return;
		}
	peer_unknown(peer, "interface", name, dot ? (size_t)(dot - name) : strlen(name));
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
	peer_unknown(peer, "interface", name, strlen(name));
}
