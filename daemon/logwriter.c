/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A queue of messages, and the thread that writes them: daemon/logwriter.h. */
#include "daemon/logwriter.h"

#include <pthread.h>
#include <string.h>

#include "daemon/kernel.h"

/* What waits to be written: more than a daemon says that is as busy as can be for some seconds. */
#define MESSAGES_MAX 4096
#define BYTES_MAX    (1024 * 1024)

struct message {
	GLogLevelFlags level;
	gsize size, n;
	GLogField fields[]; /* and then what they point to */
};

static struct {
	GMutex lock; /* for all of these */
	GCond changed;
	GQueue queue;
	gsize bytes; /* of those in the queue */
	unsigned int
		refused; /* after the last of the queue; until they are told, so is what comes */
	bool (*write)(GLogLevelFlags level, const GLogField *fields, gsize n);
	enum { NONE, RUNNING, ENDING, LEFT_BEHIND } state;
	bool is_writing;
} writer;

static __thread bool is_writer;

/* Messages */

static gsize field_size(const GLogField *field)
{
	return field->length < 0 ? strlen(field->value) + 1 : (gsize)field->length;
}

static void *append(char **end, const void *data, gsize size)
{
	char *copy = *end;

	memcpy(copy, data, size);
	*end += size;
	return copy;
}

static struct message *message_new(GLogLevelFlags level, const GLogField *fields, gsize n)
{
	gsize size = sizeof(struct message) + n * sizeof(*fields);
	struct message *message;
	char *end;

	for (gsize i = 0; i < n; i++)
		size += strlen(fields[i].key) + 1 + field_size(&fields[i]);
	message = g_malloc(size);
	*message = (struct message){.level = level, .size = size, .n = n};
	end = (char *)&message->fields[n];
	for (gsize i = 0; i < n; i++) {
		message->fields[i].key = append(&end, fields[i].key, strlen(fields[i].key) + 1);
		message->fields[i].value = append(&end, fields[i].value, field_size(&fields[i]));
		message->fields[i].length = fields[i].length;
	}
	return message;
}

/* The thread */

static bool tell_lost(unsigned int lost)
{
	g_autofree char *text = g_strdup_printf("%u message%s lost while the log took none", lost,
						lost == 1 ? " was" : "s were");
	const GLogField fields[] = {
		{"PRIORITY", "4", -1}, {"GLIB_DOMAIN", "vfio-cprd", -1}, {"MESSAGE", text, -1}};

	return writer.write(G_LOG_LEVEL_WARNING, fields, G_N_ELEMENTS(fields));
}

/* The next message, or NULL for those that were refused after it, or at the end. */
static struct message *next_message(unsigned int *lost)
{
	struct message *message;

	writer.is_writing = false;
	g_cond_broadcast(&writer.changed);
	while (writer.queue.length == 0 && !writer.refused && writer.state == RUNNING)
		g_cond_wait(&writer.changed, &writer.lock);
	writer.is_writing = true;
	message = g_queue_pop_head(&writer.queue);
	if (message) {
		writer.bytes -= message->size;
		return message;
	}
	*lost += writer.refused;
	writer.refused = 0;
	return NULL;
}

/* What cannot be written (a full disk) is lost, and told before what can be. */
static void write_message(struct message *message, unsigned int *lost)
{
	if (*lost > 0 && tell_lost(*lost))
		*lost = 0;
	if (message && (*lost > 0 || !writer.write(message->level, message->fields, message->n)))
		++*lost;
	g_free(message);
}

static void *in_thread(void *unused)
{
	unsigned int lost = 0;

	(void)unused;
	is_writer = true;
	pthread_setname_np(pthread_self(), "log");
	g_mutex_lock(&writer.lock);
	while (writer.state == RUNNING || writer.queue.length > 0 || writer.refused > 0) {
		struct message *message = next_message(&lost);

		g_mutex_unlock(&writer.lock);
		write_message(message, &lost);
		g_mutex_lock(&writer.lock);
	}
	writer.is_writing = false;
	writer.state = NONE;
	g_cond_broadcast(&writer.changed);
	g_mutex_unlock(&writer.lock);
	return NULL;
}

/* Others' side */

int logwriter_start(bool (*write)(GLogLevelFlags level, const GLogField *fields, gsize n))
{
	int r;

	g_mutex_lock(&writer.lock);
	writer.write = write;
	r = kernel->start_thread(in_thread, NULL);
	if (r == 0)
		writer.state = RUNNING;
	g_mutex_unlock(&writer.lock);
	return r;
}

static bool has_room(gsize size)
{
	if (writer.refused > 0 || writer.queue.length >= MESSAGES_MAX)
		return false;
	return writer.queue.length == 0 || writer.bytes + size <= BYTES_MAX;
}

/* With the lock; message is consumed. */
static void enqueue(struct message *message)
{
	if (writer.state != RUNNING || !has_room(message->size)) {
		writer.refused++;
		g_free(message);
		return;
	}
	writer.bytes += message->size;
	g_queue_push_tail(&writer.queue, message);
	g_cond_broadcast(&writer.changed);
}

bool logwriter_put(GLogLevelFlags level, const GLogField *fields, gsize n)
{
	struct message *message;
	bool exists;

	/* What writing a message gives rise to is not written, or there would be no end of it. */
	if (is_writer)
		return true;
	message = message_new(level, fields, n);
	g_mutex_lock(&writer.lock);
	exists = writer.state != NONE;
	if (exists)
		enqueue(g_steal_pointer(&message));
	g_mutex_unlock(&writer.lock);
	g_free(message);
	return exists;
}

/* With the lock. */
static bool is_all_written(void)
{
	return writer.queue.length == 0 && writer.refused == 0 && !writer.is_writing;
}

static bool wait_until(bool (*condition)(void), gint64 deadline)
{
	while (!condition())
		if (!g_cond_wait_until(&writer.changed, &writer.lock, deadline))
			return condition();
	return true;
}

void logwriter_flush(gint64 patience_usec)
{
	gint64 deadline = g_get_monotonic_time() + patience_usec;

	if (is_writer)
		return;
	g_mutex_lock(&writer.lock);
	if (writer.state == RUNNING)
		wait_until(is_all_written, deadline);
	g_mutex_unlock(&writer.lock);
}

static bool has_ended(void)
{
	return writer.state == NONE;
}

void logwriter_stop(gint64 patience_usec)
{
	gint64 deadline = g_get_monotonic_time() + patience_usec;

	g_mutex_lock(&writer.lock);
	if (writer.state == RUNNING) {
		writer.state = ENDING;
		g_cond_broadcast(&writer.changed);
		if (!wait_until(has_ended, deadline))
			writer.state = LEFT_BEHIND;
	}
	g_mutex_unlock(&writer.lock);
}
