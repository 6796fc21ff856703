/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI addresses as operators type them: lspci leaves the domain out, documents use upper case. */
#include "cprctl/pci-address.h"

#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS	  32
#define FUNCTIONS 8

/* Takes a number of min to max hexadecimal digits, and the character that ends it. */
static bool take_hex(const char **text, size_t min, size_t max, char end, unsigned long *ret)
{
	size_t n = strspn(*text, "0123456789abcdefABCDEF");

	if (n < min || n > max || (*text)[n] != end)
		return false;
	*ret = strtoul(*text, NULL, 16);
	*text += end ? n + 1 : n;
	return true;
}

char *pci_address_complete(const char *text)
{
	unsigned long domain = 0, bus, slot, function;
	const char *at = text;

	/* The kernel writes domains with four digits; those that it makes up may need more. */
	if (strchr(text, ':') != strrchr(text, ':') && !take_hex(&at, 4, 8, ':', &domain))
		return NULL;
	if (!take_hex(&at, 2, 2, ':', &bus) || !take_hex(&at, 2, 2, '.', &slot) ||
	    !take_hex(&at, 1, 1, '\0', &function) || slot >= SLOTS || function >= FUNCTIONS)
		return NULL;
	return g_strdup_printf("%04lx:%02lx:%02lx.%lx", domain, bus, slot, function);
}
