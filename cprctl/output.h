/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How things are printed: errors, columns, trees, JSON, and the values in them. Everything that a peer
 * could have chosen goes through output_escape() on its way to a terminal; columns and trees do
 * that themselves. Strings returned are the caller's to g_free().
 */
#ifndef CPRCTL_OUTPUT_H
#define CPRCTL_OUTPUT_H

#include <glib.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Text that moves no cursor: what is not printable, and invalid UTF-8, becomes \xNN. */
char *output_escape(const char *text);

/* Prints "vfio-cprctl: " and a sentence, escaped, on stderr. */
void ctl_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

char *output_age(uint64_t usec);   /* "3min 12s": the two largest units */
char *output_bytes(uint64_t size); /* "4 GiB", "1.5 MiB", "256 B" */
/* "3 devices", "1 device". */
char *output_count(uint64_t count, const char *singular, const char *plural);

/* Prints JSON and ends the line: readable, or as one line. -errno if stdout takes no more. */
int output_json(const json_t *value, bool one_line);

/* Whether all that was printed has reached stdout; says so if not. */
bool output_flush(void);

/* Values of a JSON object, whatever it is: "" and 0 where there is none of that type. */
const char *output_string(const json_t *object, const char *key);
int64_t output_int(const json_t *object, const char *key);

/* Columns, as wide as their widest value */

struct columns;

/* align: 'l' or 'r' for each column. headings: as many, ended by NULL. */
struct columns *columns_new(const char *align, const char *const *headings);
void columns_free(struct columns *columns);
/* Appends a cell, copied and escaped. Rows begin by themselves. */
void columns_add(struct columns *columns, const char *cell);
void columns_addf(struct columns *columns, const char *format, ...) G_GNUC_PRINTF(2, 3);
void columns_print(const struct columns *columns, bool legend, const char *indent);

void columns_cleanup(struct columns **columns);
#define auto_columns __attribute__((cleanup(columns_cleanup))) struct columns

/* Trees: nodes hold a line each, escaped when added; print frees nothing */

GNode *tree_new(void); /* the root, which is not printed */
void tree_free(GNode *root);
GNode *tree_add(GNode *parent, const char *format, ...) G_GNUC_PRINTF(2, 3);
void tree_print(GNode *root);
void tree_cleanup(GNode **root);
#define auto_tree __attribute__((cleanup(tree_cleanup))) GNode

#endif
