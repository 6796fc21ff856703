/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * show: all of one session. The objects come as a flat list whose entries name the address space
 * or device they belong to; here they are put into a tree, since what depends on what is what an
 * operator wants to see. An object that names nothing known is shown at the end, never dropped.
 */
#include <linux/vfio.h>
#include <stdio.h>

#include "cprctl/cprctl.h"
#include "cprctl/output.h"
#include "cprctl/session.h"

/* Which objects have their place already, by index in the answer. */
struct forest {
	const json_t *objects;
	const json_t *pending;
	bool *placed;
	GNode *root;
};

static const char *irq_name(int64_t index)
{
	static const char *const names[] = {
		[VFIO_PCI_INTX_IRQ_INDEX] = "INTx",  [VFIO_PCI_MSI_IRQ_INDEX] = "MSI",
		[VFIO_PCI_MSIX_IRQ_INDEX] = "MSI-X", [VFIO_PCI_ERR_IRQ_INDEX] = "ERR",
		[VFIO_PCI_REQ_IRQ_INDEX] = "REQ",
	};

	return index >= 0 && (size_t)index < G_N_ELEMENTS(names) ? names[index] : "interrupt";
}

static int64_t run_length(const json_t *object)
{
	return json_object_get(object, "count") ? output_int(object, "count") : 1;
}

/* The vectors of this run which have interrupts that nobody took. */
static void add_pending(GNode *node, const struct forest *forest, const json_t *object)
{
	int64_t first = output_int(object, "first"), end = first + run_length(object);
	json_t *pending;
	size_t i;

	json_array_foreach(forest->pending, i, pending)
	{
		int64_t vector = output_int(pending, "vector");

		if (vector >= first && vector < end &&
		    g_str_equal(output_string(pending, "object"), output_string(object, "name")))
			tree_add(node, "vector %" PRId64 ": %" PRId64 " pending", vector,
				 output_int(pending, "count"));
	}
}

static void add_eventfds(GNode *parent, const struct forest *forest, const json_t *object)
{
	const char *name = output_string(object, "name");
	int64_t first = output_int(object, "first"), count = run_length(object);
	g_autofree char *range =
		count == 1 ? g_strdup_printf("%" PRId64, first)
			   : g_strdup_printf("%" PRId64 "-%" PRId64, first, first + count - 1);
	GNode *node;

	if (json_is_integer(json_object_get(object, "irqIndex")))
		node = tree_add(parent, "%s%s %s%s, eventfd %s",
				irq_name(output_int(object, "irqIndex")),
				output_int(object, "irqAction") == 1 ? " unmask" : "",
				count == 1 ? "vector " : "vectors ", range, name);
	else
		node = tree_add(parent, "eventfd %s %s", name, range);
	add_pending(node, forest, object);
}

static void add_ids(GString *line, const json_t *object)
{
	static const char *const ids[] = {"devid", "ioasId", "hwptId"};

	for (size_t i = 0; i < G_N_ELEMENTS(ids); i++)
		if (json_is_integer(json_object_get(object, ids[i])))
			g_string_append_printf(line, ", %s %" PRId64, ids[i],
					       output_int(object, ids[i]));
}

static GNode *add_object(GNode *parent, const struct forest *forest, const json_t *object)
{
	g_autoptr(GString) line = g_string_new(output_string(object, "kind"));

	if (g_str_equal(line->str, "eventfd")) {
		add_eventfds(parent, forest, object);
		return NULL;
	}
	g_string_append_printf(line, " %s", output_string(object, "name"));
	if (json_is_integer(json_object_get(object, "size"))) {
		g_autofree char *size = output_bytes(output_int(object, "size"));

		g_string_append_printf(line, ", %s", size);
	}
	add_ids(line, object);
	return tree_add(parent, "%s", line->str);
}

/* Places the objects of a kind whose key (NULL: any) is value. */
static void add_kind(GNode *parent, struct forest *forest, const char *kind, const char *key,
		     const char *value)
{
	json_t *object, *eventfd;
	size_t i, j;

	json_array_foreach(forest->objects, i, object)
	{
		GNode *node;

		if (forest->placed[i] || !g_str_equal(output_string(object, "kind"), kind) ||
		    (key && !g_str_equal(output_string(object, key), value)))
			continue;
		forest->placed[i] = true;
		node = add_object(parent, forest, object);
		if (!node || !g_str_equal(kind, "device"))
			continue;
		json_array_foreach(forest->objects, j, eventfd)
		{
			if (!g_str_equal(output_string(eventfd, "kind"), "eventfd") ||
			    !g_str_equal(output_string(eventfd, "device"),
					 output_string(object, "name")))
				continue;
			forest->placed[j] = true;
			add_eventfds(node, forest, eventfd);
		}
	}
}

static void add_section(struct forest *forest, const char *title, const char *kind)
{
	GNode *node = tree_add(forest->root, "%s", title);

	add_kind(node, forest, kind, NULL, NULL);
	if (!node->children) {
		g_node_unlink(node);
		tree_free(node);
	}
}

static void add_space(struct forest *forest, const json_t *space)
{
	const char *name = output_string(space, "name"), *warning = output_string(space, "warning");
	const char *vaddr = output_string(space, "vaddr");
	g_autofree char *bytes = output_bytes(output_int(space, "bytes"));
	g_autofree char *mappings =
		output_count(output_int(space, "mappings"), "mapping", "mappings");
	g_autofree char *ioas =
		json_is_integer(json_object_get(space, "ioasId"))
			? g_strdup_printf(" IOAS %" PRId64, output_int(space, "ioasId"))
			: g_strdup("");
	GNode *node = tree_add(forest->root, "address space %s: %s%s, %s, %s, DMA addresses %s",
			       name, output_string(space, "backend"), ioas, mappings, bytes, vaddr);

	if (*warning)
		tree_add(node, "warning: %s", warning);
	add_kind(node, forest, "container", "name", name);
	add_kind(node, forest, "table", "name", name);
	add_kind(node, forest, "group", "space", name);
	add_kind(node, forest, "device", "space", name);
}

static void print_objects(const json_t *shown)
{
	auto_tree *root = tree_new();
	struct forest forest = {
		.objects = json_object_get(shown, "objects"),
		.pending = json_object_get(shown, "pending"),
		.root = root,
	};
	g_autofree bool *placed = g_new0(bool, json_array_size(forest.objects) + 1);
	static const char *const kinds[] = {"container", "group", "device", "table"};
	json_t *space;
	size_t i;

	forest.placed = placed;
	/* All IOAS of a session share its iommufd. */
	add_kind(root, &forest, "iommufd", NULL, NULL);
	json_array_foreach(json_object_get(shown, "spaces"), i, space)
	{
		add_space(&forest, space);
	}
	for (i = 0; i < G_N_ELEMENTS(kinds); i++)
		add_kind(root, &forest, kinds[i], NULL, NULL);
	add_section(&forest, "memory", "memory");
	add_section(&forest, "eventfds of no device", "eventfd");
	add_section(&forest, "state", "state");
	for (i = 0; i < json_array_size(forest.objects); i++)
		if (!placed[i])
			add_object(root, &forest, json_array_get(forest.objects, i));
	if (root->children)
		putchar('\n');
	tree_print(root);
}

static void print_session(const json_t *session)
{
	g_autofree char *age = output_age(output_int(session, "ageUsec"));
	g_autofree char *objects = session_objects(session);
	g_autofree char *name = output_escape(output_string(session, "name"));
	g_autofree char *state = output_escape(output_string(session, "state"));
	g_autofree char *unit = output_escape(session_unit(session));
	g_autofree char *addresses = session_devices_text(session, SIZE_MAX, ", ");
	g_autofree char *devices = output_escape(addresses);
	g_autofree char *warning = output_escape(output_string(session, "warning"));
	int64_t pid = output_int(json_object_get(session, "holder"), "pid");

	printf("%s (uid %" PRId64 ")\n", name, output_int(session, "uid"));
	printf("     State: %s for %s\n", state, age);
	if (pid)
		printf("    Holder: %" PRId64 "\n", pid);
	else
		puts("    Holder: none");
	printf("      Unit: %s%s\n", *unit ? unit : "none",
	       *unit && !pid ? " (of its last holder)" : "");
	printf("   Devices: %s\n", *devices ? devices : "none");
	printf("      Held: %s\n", objects);
	printf("  Mappings: %" PRId64 "\n", output_int(session, "mappings"));
	printf("   Pending: %" PRId64 " interrupts\n", output_int(session, "pendingInterrupts"));
	if (*warning)
		printf("   Warning: %s\n", warning);
}

static void print_mappings(const struct ctl *ctl, const json_t *mappings)
{
	static const char *const headings[] = {"SPACE",	 "IOVA", "SIZE", "OBJECT",
					       "OFFSET", "PROT", "STATE"};
	auto_columns *columns = columns_new("lrrlrll", headings);
	json_t *mapping;
	size_t i;

	json_array_foreach(mappings, i, mapping)
	{
		for (size_t j = 0; j < G_N_ELEMENTS(headings); j++) {
			g_autofree char *key = g_ascii_strdown(headings[j], -1);

			columns_add(columns, output_string(mapping, key));
		}
	}
	putchar('\n');
	if (i)
		columns_print(columns, ctl->legend, "");
	else
		puts("No mappings.");
}

/* All mappings of all address spaces, each with its space's name. An exit status. */
static int get_mappings(struct ctl *ctl, const json_t *address, const json_t *spaces,
			json_t **ret_mappings)
{
	json_auto_t *all = json_array();
	json_t *space, *mapping;
	size_t i, j;

	json_array_foreach(spaces, i, space)
	{
		const char *name = output_string(space, "name");
		json_t *parameters = json_copy((json_t *)address);
		json_auto_t *answer = NULL;
		int r;

		json_object_set_new(parameters, "space", json_string(name));
		r = ctl_call_all(ctl, "Mappings", parameters, "cannot get the mappings", &answer);
		if (r != CTL_OK)
			return r;
		json_array_foreach(json_object_get(answer, "mappings"), j, mapping)
		{
			json_object_set_new(mapping, "space", json_string(name));
			if (!json_object_get(mapping, "object"))
				json_object_set_new(mapping, "object", json_null());
			json_array_append(all, mapping);
		}
	}
	*ret_mappings = g_steal_pointer(&all);
	return CTL_OK;
}

static int print_json(const json_t *shown, json_t *mappings)
{
	static const char *const keys[] = {"objects", "spaces", "pending"};
	json_auto_t *told = json_object();

	json_object_set_new(told, "session", session_json(json_object_get(shown, "session")));
	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
		json_t *value = json_object_get(shown, keys[i]);

		json_object_set_new(told, keys[i], value ? json_incref(value) : json_array());
	}
	if (mappings)
		json_object_set(told, "mappings", mappings);
	return output_json(told, false);
}

int show_run(struct ctl *ctl, int argc, char **argv)
{
	gboolean with_mappings = FALSE;
	const GOptionEntry entries[] = {
		CTL_OPTION_UID,
		{"mappings", 'm', 0, G_OPTION_ARG_NONE, &with_mappings,
		 "List each DMA mapping as well", NULL},
		{0},
	};
	json_auto_t *address = NULL, *shown = NULL, *mappings = NULL;
	int r;

	r = ctl_options(ctl, entries, "NAME", "Shows one session, object by object.", 1, 1, &argc,
			&argv);
	if (r != CTL_OK)
		return r;

	r = ctl_find_session(ctl, argv[1], &address);
	if (r == CTL_OK)
		r = ctl_call_all(ctl, "Show", json_copy(address), "cannot show the session",
				 &shown);
	if (r == CTL_OK && with_mappings)
		r = get_mappings(ctl, address, json_object_get(shown, "spaces"), &mappings);
	if (r != CTL_OK)
		return r;

	if (ctl->json)
		return print_json(shown, mappings) < 0 ? CTL_FAILURE : CTL_OK;

	print_session(json_object_get(shown, "session"));
	print_objects(shown);
	if (mappings)
		print_mappings(ctl, mappings);
	return CTL_OK;
}
