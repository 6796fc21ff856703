/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A kernel that answers as it is told to: tests/unit/fake-dma.h. */
#include "tests/unit/fake-dma.h"

#include <check.h>
#include <inttypes.h>
#include <sys/eventfd.h>

#include "client/dma.h"

struct answers answers;
GString *asked;
struct fixture fixture;

static bool cleared;

static int answer(const char *what, uint64_t iova, int result)
{
	g_string_append_printf(asked, "%s%s %" PRIx64, asked->len ? ", " : "", what, iova);
	return result;
}

int dma_ioctl_map(struct vfio_cpr_space *space, const struct table_slot *slot, void *vaddr)
{
	(void)space;
	ck_assert_ptr_eq(vaddr, (char *)fixture.ram->addr + slot->offset);
	return answer("map", slot->iova, answers.map);
}

int dma_ioctl_map_file(struct vfio_cpr_space *space, const struct table_slot *slot, int fd)
{
	(void)space;
	ck_assert_int_eq(fd, vfio_cpr_memory_fd(fixture.ram));
	return answer("map-file", slot->iova, answers.map_file);
}

int dma_ioctl_unmap(struct vfio_cpr_space *space, uint64_t iova, uint64_t size,
		    uint64_t *ret_unmapped)
{
	(void)space;
	if (answers.unmap == 0)
		*ret_unmapped = size;
	return answer("unmap", iova, answers.unmap);
}

int dma_ioctl_set_vaddr(struct vfio_cpr_space *space, const struct table_slot *slot, void *vaddr)
{
	(void)space;
	ck_assert_ptr_eq(vaddr, (char *)fixture.ram->addr + slot->offset);
	return answer("set", slot->iova, cleared ? answers.set_vaddr_again : answers.set_vaddr);
}

int dma_ioctl_clear_vaddr(struct vfio_cpr_space *space, const struct table_slot *slot)
{
	(void)space;
	cleared = answers.clear_vaddr == 0;
	return answer("clear", slot->iova, answers.clear_vaddr);
}

int dma_ioctl_change_process(struct vfio_cpr_space *space)
{
	(void)space;
	g_string_append_printf(asked, "%schange", asked->len ? ", " : "");
	return answers.change_process;
}

/* Any descriptor does for what only the kernel would look at. */
static struct object *make_object(enum object_kind kind, const char *name, int fd)
{
	struct object *object = object_new(kind, name);

	ck_assert_int_ge(fd, 0);
	object_set_fd(object, 0, fd);
	ck_assert_int_eq(inventory_store(fixture.cpr, &object, 1), 0);
	return object;
}

void fixture_make(enum vfio_cpr_backend backend, uint32_t n_slots, bool restored)
{
	struct object *group;

	answers = (struct answers){0};
	cleared = false;
	asked = g_string_new(NULL);
	fixture = (struct fixture){0};
	ck_assert_int_eq(vfio_cpr_open("/nonexistent", VFIO_CPR_OPEN_UNPROTECTED, &fixture.cpr), 0);
	ck_assert_int_eq(vfio_cpr_attach(fixture.cpr, "vm", NULL), 0);
	ck_assert_int_eq(vfio_cpr_memory_get(fixture.cpr, "ram", RAM_SIZE, 0, &fixture.ram), 0);
	fixture.table = make_object(OBJECT_TABLE, "dma", table_create(n_slots));
	fixture.table->restored = restored;
	if (backend == VFIO_CPR_BACKEND_IOMMUFD) {
		make_object(OBJECT_IOMMUFD, "iommufd", eventfd(0, EFD_CLOEXEC));
		fixture.table->attributes.ioas_id = 1;
	} else {
		make_object(OBJECT_CONTAINER, "dma", eventfd(0, EFD_CLOEXEC));
		group = make_object(OBJECT_GROUP, "7", eventfd(0, EFD_CLOEXEC));
		group->attributes.space = g_strdup("dma");
	}
	if (restored)
		fixture.cpr->start = VFIO_CPR_START_CLAIMED;
}

void fixture_end(void)
{
	vfio_cpr_close(fixture.cpr);
	g_string_free(asked, TRUE);
}

void fixture_write_slot(uint32_t index, const struct table_slot *slot)
{
	struct table table;

	ck_assert_int_eq(table_open(object_fd(fixture.table, 0), true, &table), 0);
	table_write(&table, index, slot);
	table_close(&table);
}

void fixture_write(uint32_t index, uint64_t iova, enum table_state state)
{
	fixture_write_slot(index, &(struct table_slot){
					  .iova = iova,
					  .size = 0x1000,
					  .object = fixture.ram->object->id,
					  .state = state,
					  .prot = VFIO_CPR_DMA_READ,
				  });
}

int fixture_open_space(void)
{
	return space_open(fixture.cpr, fixture.table, &fixture.space);
}
