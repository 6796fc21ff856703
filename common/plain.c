/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text that is what it looks like: common/plain.h. */
#include "common/plain.h"

/*
 * Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt) as far as these are assigned and
 * are no format characters: fillers, joiners and variation selectors, which are letters or marks.
 */
static const struct {
	gunichar first, last;
} unseen[] = {
	{0x034f, 0x034f}, {0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x180b, 0x180d},	  {0x180f, 0x180f},
	{0x3164, 0x3164}, {0xfe00, 0xfe0f}, {0xffa0, 0xffa0}, {0xe0100, 0xe01ef},
};

bool plain_character(gunichar c)
{
	GUnicodeType type = g_unichar_type(c);

	if (type == G_UNICODE_LINE_SEPARATOR || type == G_UNICODE_PARAGRAPH_SEPARATOR)
		return false;
	for (size_t i = 0; i < G_N_ELEMENTS(unseen); i++)
		if (c >= unseen[i].first && c <= unseen[i].last)
			return false;
	/* This says no to the rest. */
	return g_unichar_isprint(c);
}

size_t plain_ascii(const char *text)
{
	const char *p = text;

	while (*p >= ' ' && *p <= '~')
		p++;
	return p - text;
}

bool plain_text(const char *text)
{
	for (const char *p = text + plain_ascii(text); *p; p = g_utf8_next_char(p))
		if (!plain_character(g_utf8_get_char(p)))
			return false;
	return true;
}
