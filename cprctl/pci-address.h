/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPRCTL_PCI_ADDRESS_H
#define CPRCTL_PCI_ADDRESS_H

/*
 * The PCI address that text is, as sysfs and the daemon write it: "0000:3b:00.0" of "3b:00.0" or
 * "0000:3B:00.0". NULL if it is none. To be g_free()d.
 */
char *pci_address_complete(const char *text);

#endif
