/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An address that the VMM brings for memory of the session: taken only if all of the memory is there,
 * since the kernel never checks what a new DMA address points to.
 */
#include <errno.h>
#include <glib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/unit/fake-dma.h"
#include "tests/unit/suite.h"

#define HALF  (RAM_SIZE / 2)
#define SHARE (PROT_READ | PROT_WRITE)

static char *base; /* room for the memory and a page before and after it */
static size_t page;

static void setup(void)
{
	fixture_make(VFIO_CPR_BACKEND_TYPE1, 8, false);
	page = sysconf(_SC_PAGESIZE);
	base = mmap(NULL, RAM_SIZE + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(base, MAP_FAILED);
	base += page;
}

/* Maps `size` bytes of the session's memory from `from` on at base + at. */
static void put(size_t at, size_t size, int prot, int flags, size_t from)
{
	ck_assert_ptr_ne(mmap(base + at, size, prot, flags | MAP_FIXED,
			      vfio_cpr_memory_fd(fixture.ram), from),
			 MAP_FAILED);
}

static void whole(void)
{
	put(0, RAM_SIZE, SHARE, MAP_SHARED, 0);
}

static void in_two_halves(void)
{
	put(HALF, HALF, SHARE, MAP_SHARED, HALF);
	put(0, HALF, SHARE, MAP_SHARED, 0);
}

/* The kernel keeps three areas then, of one file and without a gap. */
static void in_pieces(void)
{
	whole();
	ck_assert_int_eq(madvise(base + HALF, page, MADV_DONTFORK), 0);
}

static void longer_than_the_memory(void)
{
	put(0, RAM_SIZE + page, SHARE, MAP_SHARED, 0);
}

static void nothing(void)
{
}

static void shorter(void)
{
	put(0, RAM_SIZE - page, SHARE, MAP_SHARED, 0);
}

static void with_a_hole(void)
{
	whole();
	ck_assert_int_eq(munmap(base + HALF, page), 0);
}

static void begun_too_late(void)
{
	put(page, RAM_SIZE - page, SHARE, MAP_SHARED, page);
}

static void from_another_offset(void)
{
	put(0, RAM_SIZE - page, SHARE, MAP_SHARED, page);
	put(RAM_SIZE - page, page, SHARE, MAP_SHARED, 0);
}

static void halves_swapped(void)
{
	put(0, HALF, SHARE, MAP_SHARED, HALF);
	put(HALF, HALF, SHARE, MAP_SHARED, 0);
}

static void a_private_copy(void)
{
	put(0, RAM_SIZE, SHARE, MAP_PRIVATE, 0);
}

static void a_private_page(void)
{
	whole();
	put(HALF, page, SHARE, MAP_PRIVATE, HALF);
}

static void read_only(void)
{
	put(0, RAM_SIZE, PROT_READ, MAP_SHARED, 0);
}

static void write_only(void)
{
	put(0, RAM_SIZE, PROT_WRITE, MAP_SHARED, 0);
}

static void a_read_only_page(void)
{
	whole();
	ck_assert_int_eq(mprotect(base + RAM_SIZE - page, page, PROT_READ), 0);
}

/* Alike in name and size. */
static void another_file(void)
{
	auto_fd fd = memfd_create("ram", MFD_CLOEXEC);

	ck_assert_int_eq(ftruncate(fd, RAM_SIZE), 0);
	ck_assert_ptr_ne(mmap(base, RAM_SIZE, SHARE, MAP_SHARED | MAP_FIXED, fd, 0), MAP_FAILED);
}

static void anonymous(void)
{
	ck_assert_int_eq(mprotect(base, RAM_SIZE, SHARE), 0);
}

static void (*const good[])(void) = {whole, in_two_halves, in_pieces, longer_than_the_memory};

START_TEST(an_address_of_all_the_memory_is_taken)
{
	void *addr = NULL;

	good[_i]();
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, base), 0);
	ck_assert_int_eq(vfio_cpr_memory_map(fixture.ram, &addr), 0);
	ck_assert_ptr_eq(addr, base);
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, base), 0);
}
END_TEST

static void (*const bad[])(void) = {
	nothing,	  shorter,	  begun_too_late, with_a_hole, from_another_offset,
	halves_swapped,	  a_private_copy, a_private_page, read_only,   write_only,
	a_read_only_page, another_file,	  anonymous,
};

START_TEST(any_other_address_is_refused_and_changes_nothing)
{
	void *addr = NULL;

	bad[_i]();
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, base), -EINVAL);
	ck_assert_int_eq(vfio_cpr_memory_map(fixture.ram, &addr), 0);
	ck_assert_ptr_ne(addr, base);
}
END_TEST

START_TEST(an_address_within_the_mapping_is_refused)
{
	longer_than_the_memory();
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, base + page), -EINVAL);
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, base + 1), -EINVAL);
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, base - page), -EINVAL);
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, NULL), -EINVAL);
}
END_TEST

START_TEST(memory_in_use_keeps_its_address)
{
	void *addr = NULL;

	whole();
	ck_assert_int_eq(vfio_cpr_memory_map(fixture.ram, &addr), 0);
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, base), -EEXIST);
	ck_assert_int_eq(vfio_cpr_memory_set_addr(fixture.ram, addr), 0);
}
END_TEST

SUITE("memory", setup, fixture_end)
{
	tcase_add_loop_test(tests, an_address_of_all_the_memory_is_taken, 0, G_N_ELEMENTS(good));
	tcase_add_loop_test(tests, any_other_address_is_refused_and_changes_nothing, 0,
			    G_N_ELEMENTS(bad));
	tcase_add_test(tests, an_address_within_the_mapping_is_refused);
	tcase_add_test(tests, memory_in_use_keeps_its_address);
}
