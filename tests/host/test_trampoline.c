/* SPDX-License-Identifier: BSD-2-Clause */
#include "test.h"

#include <string.h>

#include "mm/layout.h"
#include "smp/trampoline.h"

#define POISON 0xcc

static uint8_t page[PAGE_SIZE];
static uint8_t image[PAGE_SIZE];

static int fill_image(void **state)
{
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)(i * 7 + 1);
    memset(page, 0, sizeof page);
    return 0;
}

static enum trampoline_error install(uint64_t address, size_t size,
                                     const struct trampoline_relocation *r,
                                     size_t count)
{
    return trampoline_install(page, address, image, size, r, count);
}

static uint32_t word_at(size_t offset)
{
    uint32_t word;
    memmove(&word, page + offset, sizeof word);
    return word;
}

static void copies_and_poisons_the_rest(void **state)
{
    assert_int_equal(install(0x8000, 100, NULL, 0), TRAMPOLINE_OK);
    assert_memory_equal(page, image, 100);
    for (size_t i = 100; i < sizeof page; i++)
        assert_int_equal(page[i], POISON);
}

static void relocates_at_every_page(void **state)
{
    static const struct trampoline_relocation r[] = {{0, 99}, {50, 0}, {96, 4}};
    for (uint64_t address = 0x1000; address < LOW_MEMORY_END;
         address += PAGE_SIZE) {
        assert_int_equal(install(address, 100, r, 3), TRAMPOLINE_OK);
        assert_int_equal(word_at(0), address + 99);
        assert_int_equal(word_at(50), address);
        assert_int_equal(word_at(96), address + 4);
        assert_memory_equal(page + 4, image + 4, 46);
        assert_memory_equal(page + 54, image + 54, 42);
    }
}

static void refuses_pages_that_a_sipi_cant_name(void **state)
{
    static const uint64_t bad[] = {0x8001,         0x8800,     0x8fff,
                                   LOW_MEMORY_END, 0x100000,   0x100008000,
                                   ~0ull,          ~0ull << 12};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(install(bad[i], 16, NULL, 0), TRAMPOLINE_BAD_PAGE);
        assert_int_equal(page[0], 0);
    }
    assert_int_equal(install(LOW_MEMORY_END - PAGE_SIZE, 16, NULL, 0),
                     TRAMPOLINE_OK);
}

static void refuses_an_image_longer_than_a_page(void **state)
{
    assert_int_equal(install(0x8000, PAGE_SIZE, NULL, 0), TRAMPOLINE_OK);
    assert_int_equal(install(0x8000, PAGE_SIZE + 1, NULL, 0),
                     TRAMPOLINE_TOO_LARGE);
    assert_int_equal(install(0x8000, SIZE_MAX, NULL, 0), TRAMPOLINE_TOO_LARGE);
}

static void refuses_relocations_out_of_range(void **state)
{
    static const struct trampoline_relocation bad[] = {
        {97, 0},  {100, 0},        {0xfffffffd, 0}, {0xffffffff, 0},
        {0, 100}, {0, 0xffffffff}, {4096, 0},       {0, 4096},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(install(0x8000, 100, &bad[i], 1),
                         TRAMPOLINE_BAD_RELOCATION);
    static const struct trampoline_relocation tiny = {0, 0};
    for (size_t size = 0; size < 4; size++)
        assert_int_equal(install(0x8000, size, &tiny, 1),
                         TRAMPOLINE_BAD_RELOCATION);
    assert_int_equal(install(0x8000, 4, &tiny, 1), TRAMPOLINE_OK);
}

static void survives_relocations_by_chance(void **state)
{
    for (int round = 0; round < 100000; round++) {
        struct trampoline_relocation r = {chance() >> below(32),
                                          chance() >> below(32)};
        size_t size = below(PAGE_SIZE + 1);
        bool inside = (uint64_t)r.place + 4 <= size && r.target < size;
        assert_int_equal(install(0x9000, size, &r, 1),
                         inside ? TRAMPOLINE_OK : TRAMPOLINE_BAD_RELOCATION);
    }
}

/* What the unit copies with (host.mk renames its memcpy() to this): loses a
 * byte where there is no memory. */
static size_t lost_at = SIZE_MAX;
void *lossy_memcpy(void *to, const void *from, size_t size);

void *lossy_memcpy(void *to, const void *from, size_t size)
{
    memmove(to, from, size);
    size_t offset = (size_t)((uint8_t *)to - page);
    if (offset < sizeof page && lost_at - offset < size)
        page[lost_at] ^= 0xff;
    return to;
}

static void sees_that_the_page_is_not_writable(void **state)
{
    static const struct trampoline_relocation r = {200, 8};
    for (size_t at = 0; at < 300; at += 13) {
        lost_at = at;
        assert_int_equal(install(0x8000, 300, &r, 1), TRAMPOLINE_NOT_WRITABLE);
    }
    lost_at = 301; /* outside the image: nobody will read it */
    assert_int_equal(install(0x8000, 300, &r, 1), TRAMPOLINE_OK);
    lost_at = SIZE_MAX;
}

static void each_error_has_its_own_text(void **state)
{
    for (int i = TRAMPOLINE_OK; i <= TRAMPOLINE_NOT_WRITABLE; i++) {
        const char *text = trampoline_error_text((enum trampoline_error)i);
        assert_string_not_equal(text, "unknown error");
        for (int j = TRAMPOLINE_OK; j < i; j++)
            assert_string_not_equal(
                text, trampoline_error_text((enum trampoline_error)j));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(copies_and_poisons_the_rest, fill_image),
        cmocka_unit_test_setup(relocates_at_every_page, fill_image),
        cmocka_unit_test_setup(refuses_pages_that_a_sipi_cant_name, fill_image),
        cmocka_unit_test_setup(refuses_an_image_longer_than_a_page, fill_image),
        cmocka_unit_test_setup(refuses_relocations_out_of_range, fill_image),
        cmocka_unit_test_setup(survives_relocations_by_chance, fill_image),
        cmocka_unit_test_setup(sees_that_the_page_is_not_writable, fill_image),
        cmocka_unit_test(each_error_has_its_own_text),
    };
    return cmocka_run_group_tests_name("trampoline", tests, NULL, NULL);
}
