/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every call that is refused: answered with an error, and logged here. Most refusals are mistakes
 * of a program, for its author to see at debug level. An attempt on what belongs to another user is
 * seldom a mistake, so that the operator is warned of it.
 */
#include <fcntl.h>
#include <string.h>

#include "common/error-name.h"
#include "common/fd.h"
#include "daemon/log.h"
#include "daemon/peer.h"
#include "daemon/process.h"
#include "daemon/session.h"
#include "daemon/unitlook.h"

#define TEXT_MAX 1024 /* bytes of a sentence or a name in an error */

#define OWN_INTERFACES	  "io.vfiocpr."
#define SESSION_INTERFACE OWN_INTERFACES "Session."
#define SERVICE_INTERFACE "org.varlink.service."

/* The call's method without its interface; a message that is no call has none. */
static const char *method_of(const struct peer *peer)
{
	const char *method = peer->call.method, *dot = method ? strrchr(method, '.') : NULL;

	return dot ? dot + 1 : method ? method : "a message";
}

/* An error's full name: of the interface of the call under way, if that is one of ours. */
static char *own_error(const struct peer *peer, const char *error)
{
	const char *method = peer->call.method;
	int length = method ? method_of(peer) - method : 0;

	if (!method || !g_str_has_prefix(method, OWN_INTERFACES))
		return g_strconcat(SESSION_INTERFACE, error, NULL);
	return g_strdup_printf("%.*s%s", length, method, error);
}

/* What a peer has written is cut: it may be a megabyte. */
static void log_refusal(const struct peer *peer, const char *error, const char *message)
{
	g_autofree char *who = log_is_debugging() ? peer_describe(peer) : NULL;

	if (who)
		log_debug(NULL, "%s was refused %.100s: %s: %.400s", who, method_of(peer), error,
			  message);
}

/*
 * A sentence may have a part of what the peer has sent, cut by jansson where its buffer ended: in
 * the middle of a character. Then it would be no JSON string, and the answer no answer. And it may
 * be a megabyte of it: who sent that needs no copy.
 */
static char *as_text(const char *message)
{
	size_t length = strnlen(message, TEXT_MAX + 1), end = MIN(length, TEXT_MAX);
	g_autofree char *valid = NULL;

	while (end < length && end > 0 && (message[end] & 0xc0) == 0x80)
		end--;
	valid = g_utf8_make_valid(message, end);
	return g_strconcat(valid, end < length ? "..." : "", NULL);
}

void peer_fail(struct peer *peer, const char *error, int number, const char *format, ...)
{
	g_autofree char *name = own_error(peer, error);
	g_autofree char *sentence = NULL, *message = NULL;
	va_list arguments;

	g_assert(error_name_to_errno(error) != 0);
	va_start(arguments, format);
	sentence = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	message = as_text(sentence);
	log_refusal(peer, error, message);
	peer_answer_error(peer, name, json_pack("{s:s, s:i}", "message", message, "errno", number));
}

void peer_unknown(struct peer *peer, const char *what, const char *name, size_t length)
{
	g_autofree char *whole = g_strndup(name, MIN(length, 2 * TEXT_MAX)), *text = as_text(whole);
	bool is_method = strcmp(what, "method") == 0;

	peer_fail_service(peer, is_method ? "MethodNotFound" : "InterfaceNotFound",
			  json_pack("{s:s}", what, text));
}

void peer_fail_service(struct peer *peer, const char *error, json_t *parameters)
{
	g_autofree char *name = g_strconcat(SERVICE_INTERFACE, error, NULL);
	char *text = log_is_debugging() ? json_dumps(parameters, JSON_COMPACT) : NULL;

	if (text)
		log_refusal(peer, error, text);
	free(text);
	peer_answer_error(peer, name, parameters);
}

void peer_invalid(struct peer *peer, const char *parameter, const char *message)
{
	g_autofree char *name = as_text(parameter);
	g_autofree char *sentence = as_text(message);

	peer_fail_service(peer, "InvalidParameter",
			  json_pack("{s:s, s:s}", "parameter", name, "message", sentence));
}

/* An attempt on what is another user's, to be told once it is known which unit has made it. */
struct attempt {
	char *who, *what;
	int pidfd; /* of who it was, a copy */
};

static void tell_attempt(void *data, char *unit)
{
	struct attempt *attempt = data;
	bool is_known = unit && process_lives(attempt->pidfd);

	log_warning(NULL, "%s%s%s was refused %s: it is another user's", attempt->who,
		    is_known ? " of " : "", is_known ? unit : "", attempt->what);
	fd_close(&attempt->pidfd);
	g_free(unit);
	g_free(attempt->who);
	g_free(attempt->what);
	g_free(attempt);
}

static void warn_of_attempt(const struct peer *peer, uid_t owner)
{
	const char *name = json_string_value(json_object_get(peer->call.parameters, "name"));
	int pidfd = peer->session ? peer->session->holder.pidfd : peer->pidfd;
	bool is_named = name && session_name_is_valid(name);
	struct attempt *attempt;

	if (!log_may(peer->uid))
		return;
	attempt = g_new(struct attempt, 1);
	attempt->who = peer_describe(peer);
	attempt->pidfd = -1;
	attempt->what = g_strdup_printf("%s%s%s of uid %u", method_of(peer),
					is_named ? " of session " : "", is_named ? name : "",
					owner);
	/* Where looks hang few attempts wait for one, as they have a descriptor; the next have no unit. */
	if (unit_looks_wait(peer->account) ||
	    !unit_look_begin(peer->account, peer->pid, tell_attempt, attempt))
		tell_attempt(attempt, NULL);
	else if (pidfd >= 0)
		attempt->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
}

void peer_forbid(struct peer *peer, uid_t owner)
{
	g_autofree char *message =
		g_strdup_printf("what belongs to uid %u is not for uid %u: only root may see and "
				"change what is another user's. Leave out uid, or do it as root",
				owner, peer->uid);

	warn_of_attempt(peer, owner);
	peer_answer_error(peer, SERVICE_INTERFACE "PermissionDenied",
			  json_pack("{s:s}", "message", message));
}
