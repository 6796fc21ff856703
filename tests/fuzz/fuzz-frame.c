/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way of a message from the socket to the objects in it: frame_reader, frame_too_deep(), the
 * JSON parser, object_from_json(). The input is a list of sends: a byte that says how many
 * descriptors go along (none, mostly), one for its length in units of 4, then the bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <jansson.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/frame.h"
#include "common/table.h"
#include "daemon/object.h"
#include "daemon/worker.h"

#define DESCRIPTORS 4

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_base *base;
static int samples[DESCRIPTORS]; /* one of each kind that needs no hardware */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	base = event_base_new();
	g_assert(worker_start(base) == 0);
	samples[0] = eventfd(0, EFD_CLOEXEC);
	samples[1] = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	samples[2] = table_create(4);
	samples[3] = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	g_assert(fcntl(samples[3], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
	return 0;
}

static void put(int socket, const uint8_t *bytes, size_t size, size_t n_fds)
{
	union {
		char bytes[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)bytes, size};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.align), samples, n_fds * sizeof(int));
	}
	(void)!sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void use_object(struct object_set *set, json_t *json, struct fdlist *fds, size_t *used)
{
	const char *parameter = NULL;
	char *message = NULL;
	struct object *object = object_from_json(json, fds, used, &parameter, &message);

	if (!object) {
		g_assert(parameter && message);
		g_free(message);
		return;
	}
	json_decref(object_to_json(object, 0, object->fds->len, 0));
	message = object_set_conflict(set, object);
	if (message)
		object_free(object);
	else
		object_set_add(set, object);
	g_free(message);
}

static void use_message(const char *text, size_t size, struct fdlist *fds)
{
	struct object_set set;
	json_t *json, *objects, *item;
	size_t used = 0, i, n = fds->n;

	g_assert(text[size] == '\0' && strlen(text) == size);
	if (frame_too_deep(text, size))
		return;
	json = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	object_set_init(&set, NULL);
	objects = json_is_array(json) ? json : json_object_get(json, "objects");
	json_array_foreach(objects, i, item) use_object(&set, item, fds, &used);
	g_assert(used <= n);
	object_set_clear(&set);
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_reader reader;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		abort();
	frame_reader_init(&reader, 4096, NULL, NULL);
	while (size >= 2) {
		size_t n = MIN((size_t)data[1] * 4, size - 2);
		bool receives = data[0] & 0x80;

		put(ends[0], data + 2, n, data[0] & 0x40 ? 1 + data[0] % DESCRIPTORS : 0);
		data += 2 + n;
		size -= 2 + n;
		while (receives || size < 2) {
			auto_fdlist fds = FDLIST_INIT;
			char *text;
			size_t length;
			int r = frame_reader_receive(&reader, ends[1]);

			while (frame_reader_take(&reader, &text, &length, &fds) == 1) {
				use_message(text, length, &fds);
				fdlist_clear(&fds);
				free(text);
			}
			if (r < 0 && r != -EAGAIN)
				size = 0;
			if (r <= 0)
				break;
		}
	}
	frame_reader_clear(&reader);
	close(ends[0]);
	close(ends[1]);
	worker_drain();
	return 0;
}
