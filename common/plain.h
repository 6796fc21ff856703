/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Text that is what it looks like. A terminal, a log's reader and a page that shows JSON do more with
 * a character than print it: some begin lines, some turn the text around them (bidi controls), some
 * cannot be seen, so that two names look alike.
 */
#ifndef COMMON_PLAIN_H
#define COMMON_PLAIN_H

#include <glib.h>
#include <stdbool.h>

/*
 * Whether the character is seen, and changes nothing around it: no control, format character,
 * surrogate, separator of lines or paragraphs, or one that is ignored where it is not known; nor one
 * that Unicode has not assigned, as far as this GLib knows.
 */
bool plain_character(gunichar c);

/* The same of a whole text, which is valid UTF-8. */
bool plain_text(const char *text);

/* How many bytes it begins with that are printable ASCII: plain at a glance, as most names are. */
size_t plain_ascii(const char *text);

#endif
