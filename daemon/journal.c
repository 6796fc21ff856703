/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A socket as a log: daemon/journal.h. */
#include "daemon/journal.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/scm.h"
#include "common/uapi.h"
#include "daemon/fdinfo.h"
#include "daemon/fdstore.h"
#include "daemon/worker.h"

#define QUEUE_BYTES  (8 * 1024 * 1024) /* asked for; the kernel gives up to net.core.wmem_max */
#define INLINE_BYTES 2048	       /* a longer record goes into a memfd: the queue is dear */
#define RECORD_BYTES (16 * 1024 * 1024)
#define END_USEC     (2 * G_USEC_PER_SEC)
#define IN_MEMFD     "M" /* such a message brings its record in a memfd, its last descriptor */

/*
 * The names. An older daemon has to know them too: they begin with JOURNAL_PREFIX and end with the
 * end. systemd takes what is printable and no colon, which separates them, and up to 255 bytes
 * (fdname_is_valid() in src/basic/fd-util.c): 16 digits, a uid and 64 of a session's name fit.
 */

static char *end_name(const struct journal *journal, char end)
{
	return journal->foreign ? g_strdup(journal->name)
				: g_strdup_printf("%s-%c", journal->name, end);
}

/* A colon of the session's name is a plus there, which no session's name has. */
static char *make_name(uint64_t random, const char *session, uid_t uid)
{
	char *name = g_strdup_printf(JOURNAL_PREFIX "%016" PRIx64 ".%u.%s", random, uid, session);
	g_autofree char *stored = g_strdelimit(g_strconcat(name, "-r", NULL), ":", '+');

	if (!fdstore_may_be_called(stored))
		name[strlen(JOURNAL_PREFIX) + 16] = '\0';
	return g_strdelimit(name, ":", '+');
}

bool journal_tells(const struct journal *journal, char **ret_session, uid_t *ret_uid)
{
	const char *told = strchr(journal->name, '.');
	char *end;
	guint64 uid;

	if (journal->foreign || !told || !g_ascii_isdigit(told[1]))
		return false;
	uid = g_ascii_strtoull(told + 1, &end, 10);
	if (*end != '.' || uid >= UINT32_MAX)
		return false;
	*ret_uid = uid;
	*ret_session = g_strdelimit(g_strdup(end + 1), "+", ':');
	return true;
}

int journal_new(const char *session, uid_t uid, struct journal **ret_journal)
{
	const int bytes = QUEUE_BYTES;
	struct journal *journal;
	uint64_t random;
	int ends[2];

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -errno;
	/*
	 * SO_SNDBUFFORCE needs CAP_NET_ADMIN. Without it SO_SNDBUF gives net.core.wmem_max, which
	 * is enough for 40,000 descriptors.
	 */
	if (setsockopt(ends[1], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	journal = g_new0(struct journal, 1);
	journal->name = make_name(random, session, uid);
	journal->stored = true;
	journal->receive = ends[0];
	journal->send = ends[1];
	*ret_journal = journal;
	return 0;
}

struct journal *journal_found(const char *name, int receive, int send)
{
	struct journal *journal = g_new0(struct journal, 1);

	journal->name = g_strdup(name);
	journal->receive = receive;
	journal->send = send;
	journal->stored = receive >= 0;
	journal->has_twin = send >= 0;
	return journal;
}

struct journal *journal_foreign(const char *name, int fd)
{
	struct journal *journal = journal_found(name, fd, -1);

	journal->foreign = true;
	return journal;
}

void journal_free(struct journal *journal)
{
	int ends[2], n = 0;

	if (!journal)
		return;
	if (journal->receive >= 0)
		ends[n++] = journal->receive;
	if (journal->send >= 0)
		ends[n++] = journal->send;
	/* With the last of the ends the kernel closes what is in the queue, which may block. */
	worker_close(ends, n);
	g_free(journal->name);
	g_free(journal);
}

/* Writing */

static int to_memfd(const char *text)
{
	auto_fd fd = memfd_create("vfio-cprd-record", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t size = strlen(text);

	if (fd < 0)
		return -errno;
	if (write(fd, text, size) != size)
		return -EIO;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	return fd_take(&fd);
}

static int send_message(int socket, const char *text, const int *fds, size_t n_fds)
{
	union scm_buffer control;
	struct iovec iov = {(char *)text, strlen(text)};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	scm_pack(&header, &control, fds, n_fds);
	do
		n = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int journal_write(struct journal *journal, const json_t *record, const int *fds, size_t n_fds)
{
	char *text = json_dumps(record, JSON_COMPACT);
	int all[SCM_MAX_FDS], r;
	auto_fd memfd = -1;

	g_assert(n_fds <= JOURNAL_MAX_FDS);
	if (!text)
		return -EBADMSG;
	if (strlen(text) <= INLINE_BYTES) {
		r = send_message(journal->send, text, fds, n_fds);
	} else {
		memfd = to_memfd(text);
		if (n_fds > 0)
			memcpy(all, fds, n_fds * sizeof(int));
		all[n_fds] = memfd;
		r = memfd < 0 ? memfd : send_message(journal->send, IN_MEMFD, all, n_fds + 1);
	}
	free(text);
	if (r == 0) {
		journal->records++;
		journal->descriptors += n_fds + (memfd >= 0);
	}
	/* The first send after the receiving end was closed with messages in it: unix_release_sock(). */
	return r == -ECONNRESET ? -EPIPE : r;
}

bool journal_is_crowded(const struct journal *journal)
{
	socklen_t length = sizeof(int);
	int queued = 0, limit = 0;

	if (ioctl(journal->send, SIOCOUTQ, &queued) < 0 ||
	    getsockopt(journal->send, SOL_SOCKET, SO_SNDBUF, &limit, &length) < 0)
		return false;
	return queued > limit / 2;
}

/* Reading */

int journal_rewind(struct journal *journal)
{
	const int start = 0;

	return setsockopt(journal->receive, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start)) < 0
		       ? -errno
		       : 0;
}

size_t journal_in_flight(const struct journal *journal)
{
	char count[32];

	return journal->receive >= 0 &&
			       fdinfo_field(journal->receive, "scm_fds:", count, sizeof(count))
		       ? g_ascii_strtoull(count, NULL, 10)
		       : 0;
}

static int record_from_memfd(int fd, json_t **ret_record)
{
	g_autofree char *text = NULL;
	struct stat st;

	if (fd < 0 || fcntl(fd, F_GET_SEALS) < 0 || fstat(fd, &st) < 0 || st.st_size > RECORD_BYTES)
		return -EBADMSG;
	text = g_malloc(st.st_size);
	if (pread(fd, text, st.st_size, 0) != st.st_size)
		return -EBADMSG;
	*ret_record = json_loadb(text, st.st_size, JSON_REJECT_DUPLICATES, NULL);
	return *ret_record ? 1 : -EBADMSG;
}

int journal_peek(struct journal *journal, json_t **ret_record, struct fdlist *ret_fds)
{
	union scm_buffer control;
	char text[INLINE_BYTES];
	struct iovec iov = {text, sizeof(text)};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	ssize_t n;

	scm_prepare(&header, &control);
	do
		n = recvmsg(journal->receive, &header, MSG_PEEK | MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	scm_unpack(&header, ret_fds);
	if (header.msg_flags & MSG_CTRUNC)
		return -EMFILE;
	if (n == 0)
		return 0; /* the sending end is gone: the log is whole, and ends here */
	if (header.msg_flags & MSG_TRUNC)
		return -EBADMSG;
	journal->records++;
	journal->descriptors += ret_fds->n;
	if (n == (ssize_t)strlen(IN_MEMFD) && memcmp(text, IN_MEMFD, n) == 0) {
		auto_fd memfd = ret_fds->n > 0 ? ret_fds->fds[ret_fds->n - 1] : -1;

		if (ret_fds->n > 0)
			ret_fds->n--;
		return record_from_memfd(memfd, ret_record);
	}
	*ret_record = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	return *ret_record ? 1 : -EBADMSG;
}

/* The fd store */

/* For each of its entries there. */
static void for_each_entry(const struct journal *journal, void (*count)(const char *name))
{
	g_autofree char *receive = end_name(journal, 'r'), *send = end_name(journal, 's');

	if (journal->stored)
		count(receive);
	if (journal->has_twin)
		count(send);
}

void journal_take_room(const struct journal *journal)
{
	for_each_entry(journal, fdstore_take);
}

void journal_give_room(const struct journal *journal)
{
	for_each_entry(journal, fdstore_give);
}

int journal_park(const struct journal *journal)
{
	g_autofree char *receive = end_name(journal, 'r');
	int r = fdstore_add(receive, journal->receive);

	return r == 0 ? fdstore_barrier() : r;
}

/*
 * Waits until nobody has the receiving end, and the queue is gone: PID 1 closes by a process of its own
 * (asynchronous_close() in systemd's src/basic/async.c), which may come after the barrier. Until then
 * what is in the queue is open, whoever else closes it.
 */
static int wait_for_end(const struct journal *journal)
{
	gint64 deadline = g_get_monotonic_time() + END_USEC;
	int queued = 0;

	while (ioctl(journal->send, SIOCOUTQ, &queued) == 0 && queued > 0) {
		if (g_get_monotonic_time() > deadline)
			return -EBUSY;
		g_usleep(100);
	}
	return 0;
}

int journal_unpark(const struct journal *journal)
{
	g_autofree char *receive = end_name(journal, 'r'), *send = end_name(journal, 's');
	/*
	 * The receiving end first, since the queue is in it. If the daemon dies in between, a sending
	 * end is left, which the next daemon drops.
	 */
	int r = fdstore_remove(receive);

	if (r == 0 && journal->has_twin)
		r = fdstore_remove(send);
	if (r == 0)
		r = fdstore_barrier();
	/* Who has the receiving end here, too, closes it later. */
	return r == 0 && journal->receive < 0 && journal->send >= 0 ? wait_for_end(journal) : r;
}
