/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hash for tables whose keys are names that peers choose. It has a secret, so that nobody can
 * choose thousands of names that go into one bucket, which g_str_hash() lets everybody do.
 */
#ifndef DAEMON_NAMEHASH_H
#define DAEMON_NAMEHASH_H

#include <glib.h>

/* For GHashTable. It takes a microsecond: where thousands are looked up a tree is quicker. */
guint namehash(gconstpointer name);

#endif
