/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A hash with a secret: daemon/namehash.h. */
#include "daemon/namehash.h"

#include <string.h>
#include <sys/random.h>

#define KEY_BYTES    32
#define DIGEST_BYTES 32 /* of SHA-256 */

/* The process's own. It is for nothing else, so bytes that are missing are no harm but to it. */
static const guint8 *secret(void)
{
	static guint8 key[KEY_BYTES];
	static gsize once;

	if (g_once_init_enter(&once)) {
		(void)!getrandom(key, sizeof(key), 0);
		g_once_init_leave(&once, 1);
	}
	return key;
}

guint namehash(gconstpointer name)
{
	GHmac *hmac = g_hmac_new(G_CHECKSUM_SHA256, secret(), KEY_BYTES);
	guint8 digest[DIGEST_BYTES];
	gsize size = sizeof(digest);
	guint hash;

	g_hmac_update(hmac, name, strlen(name));
	g_hmac_get_digest(hmac, digest, &size);
	g_hmac_unref(hmac);
	memcpy(&hash, digest, sizeof(hash));
	return hash;
}
