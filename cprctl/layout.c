/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Columns and trees. The columns are the same whether stdout is a terminal or not, so that what an
 * operator sees is what a script gets; scripts are better off with --json all the same.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cprctl/output.h"

struct columns {
	char *align;
	size_t n; /* columns */
	GPtrArray *headings;
	GPtrArray *cells; /* row by row */
};

static size_t width(const char *text)
{
	size_t n = 0;

	/* Everything here is valid UTF-8 by output_escape(). */
	for (const char *p = text; *p; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);

		n += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
	}
	return n;
}

struct columns *columns_new(const char *align, const char *const *headings)
{
	struct columns *columns = g_new0(struct columns, 1);

	columns->align = g_strdup(align);
	columns->n = strlen(align);
	columns->headings = g_ptr_array_new_with_free_func(g_free);
	columns->cells = g_ptr_array_new_with_free_func(g_free);
	for (size_t i = 0; i < columns->n; i++)
		g_ptr_array_add(columns->headings, g_strdup(headings[i]));
	return columns;
}

void columns_free(struct columns *columns)
{
	if (!columns)
		return;
	g_free(columns->align);
	g_ptr_array_unref(columns->headings);
	g_ptr_array_unref(columns->cells);
	g_free(columns);
}

void columns_cleanup(struct columns **columns)
{
	columns_free(*columns);
}

void columns_add(struct columns *columns, const char *cell)
{
	/* An empty cell would shift the fields of whoever splits at white space. */
	g_ptr_array_add(columns->cells, output_escape(*cell ? cell : "-"));
}

void columns_addf(struct columns *columns, const char *format, ...)
{
	g_autofree char *cell = NULL;
	va_list args;

	va_start(args, format);
	cell = g_strdup_vprintf(format, args);
	va_end(args);
	columns_add(columns, cell);
}

static void print_row(const struct columns *columns, char **cells, const size_t *widths,
		      const char *indent)
{
	fputs(indent, stdout);
	for (size_t i = 0; i < columns->n; i++) {
		int pad = (int)(widths[i] - width(cells[i]));
		bool last = i + 1 == columns->n;

		if (columns->align[i] == 'r')
			printf("%*s%s", pad, "", cells[i]);
		else
			printf("%s%*s", cells[i], last ? 0 : pad, "");
		fputs(last ? "\n" : "  ", stdout);
	}
}

void columns_print(const struct columns *columns, bool legend, const char *indent)
{
	g_autofree size_t *widths = g_new0(size_t, columns->n);

	for (size_t i = 0; legend && i < columns->n; i++)
		widths[i] = width(columns->headings->pdata[i]);
	for (size_t i = 0; i < columns->cells->len; i++)
		widths[i % columns->n] =
			MAX(widths[i % columns->n], width(columns->cells->pdata[i]));

	if (legend)
		print_row(columns, (char **)columns->headings->pdata, widths, indent);
	for (size_t i = 0; i + columns->n <= columns->cells->len; i += columns->n)
		print_row(columns, (char **)&columns->cells->pdata[i], widths, indent);
}

GNode *tree_new(void)
{
	return g_node_new(NULL);
}

static gboolean free_line(GNode *node, gpointer unused)
{
	(void)unused;
	g_free(node->data);
	return FALSE;
}

void tree_free(GNode *root)
{
	if (!root)
		return;
	g_node_traverse(root, G_PRE_ORDER, G_TRAVERSE_ALL, -1, free_line, NULL);
	g_node_destroy(root);
}

void tree_cleanup(GNode **root)
{
	tree_free(*root);
}

GNode *tree_add(GNode *parent, const char *format, ...)
{
	g_autofree char *line = NULL;
	va_list args;

	va_start(args, format);
	line = g_strdup_vprintf(format, args);
	va_end(args);
	return g_node_append_data(parent, output_escape(line));
}

static void print_below(GNode *parent, const char *prefix, bool unicode)
{
	for (GNode *node = parent->children; node; node = node->next) {
		g_autofree char *deeper = NULL;

		if (unicode) {
			printf("%s%s%s\n", prefix, node->next ? "├─" : "└─", (char *)node->data);
			deeper = g_strconcat(prefix, node->next ? "│ " : "  ", NULL);
		} else {
			printf("%s%s%s\n", prefix, node->next ? "|-" : "`-", (char *)node->data);
			deeper = g_strconcat(prefix, node->next ? "| " : "  ", NULL);
		}
		print_below(node, deeper, unicode);
	}
}

void tree_print(GNode *root)
{
	bool unicode = g_get_charset(NULL);

	for (GNode *node = root->children; node; node = node->next) {
		puts(node->data);
		print_below(node, "", unicode);
	}
}
