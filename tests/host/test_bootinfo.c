/* SPDX-License-Identifier: BSD-2-Clause */
/* What a loader passes, right and hostile.  Physical memory is one buffer
 * whose end ASan guards. */
#include "test.h"

#include <string.h>

#include "boot/bootinfo.h"

#define MAGIC1 0x2badb002u
#define MAGIC2 0x36d76289u
#define BASE   0x10000u /* the buffer's physical address */

static struct bootinfo info;
static uint8_t *memory;
static size_t memory_size;

static const void *at(uint64_t physical)
{
    /* A right reader follows no pointer out of what it was given. */
    assert_true(physical >= BASE && physical < BASE + memory_size);
    return memory + (physical - BASE);
}

/* Copy the image to memory of exactly its size, and read it. */
static const char *read_image(uint32_t magic, const void *image, size_t size)
{
    memory = malloc(size);
    assert_non_null(memory);
    memory_size = size;
    memcpy(memory, image, size);
    memset(&info, 0x5a, sizeof info);
    const char *problem = bootinfo_read(&info, magic, memory, at);
    free(memory);
    return problem;
}

/* ------------------------------------------------------------ Multiboot 1 */

struct image1 {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline;
    uint32_t mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr;
    char text[36];
    struct __attribute__((packed)) {
        uint32_t size;
        uint64_t start, length;
        uint32_t type;
    } regions[3];
} __attribute__((packed));

static struct image1 image1(void)
{
    return (struct image1){
        .flags = 1 << 2 | 1 << 6,
        .cmdline = BASE + offsetof(struct image1, text),
        .mmap_length = sizeof((struct image1 *)0)->regions,
        .mmap_addr = BASE + offsetof(struct image1, regions),
        .text = "lamppost.elf  selftest smp=off",
        .regions = {{20, 0, 0x9fc00, 1},
                    {20, 0xf0000, 0x10000, 2},
                    {20, 0x100000, 0x7f00000, 1}},
    };
}

static void multiboot1(void **state)
{
    struct image1 image = image1();
    assert_null(read_image(MAGIC1, &image, sizeof image));
    assert_string_equal(info.protocol, "Multiboot 1");
    assert_string_equal(info.cmdline, "selftest smp=off");
    assert_int_equal(info.region_count, 3);
    assert_int_equal(info.regions[2].start, 0x100000);
    assert_int_equal(info.regions[2].end, 0x8000000);
    assert_int_equal(info.regions[1].type, REGION_RESERVED);
    assert_false(info.has_rsdp);
}

static void multiboot1_without_a_map(void **state)
{
    struct image1 image = image1();
    image.flags = 0;
    assert_non_null(
        strstr(read_image(MAGIC1, &image, sizeof image), "no memory map"));
    assert_string_equal(info.cmdline, "");
    image = image1();
    image.mmap_length = 0;
    assert_non_null(read_image(MAGIC1, &image, sizeof image));
}

static void multiboot1_with_hostile_sizes(void **state)
{
    static const uint32_t sizes[] = {
        0, 1, 19, 0x7fffffff, 0xfffffff0, 0xfffffffc, 0xffffffff};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t r = 0; r < 3; r++) {
            struct image1 image = image1();
            image.regions[r].size = sizes[i];
            read_image(MAGIC1, &image, sizeof image);
            assert_true(info.region_count <= r + 1);
        }
    struct image1 image = image1(); /* larger entries are allowed */
    image.regions[0].size = 20 + 24;
    assert_null(read_image(MAGIC1, &image, sizeof image));
    assert_int_equal(info.region_count, 2);
}

static void regions_that_can_not_be(void **state)
{
    struct image1 image = image1();
    image.regions[0].length = 0;
    image.regions[1].start = ~0ull - 10;
    image.regions[1].length = 100;
    assert_null(read_image(MAGIC1, &image, sizeof image));
    assert_int_equal(info.region_count, 1);
}

/* ------------------------------------------------------------ Multiboot 2 */

struct image2 {
    uint32_t words[512];
    size_t count;
};

static void put(struct image2 *i, uint32_t word)
{
    i->words[i->count++] = word;
}

static void put_tag(struct image2 *i, uint32_t type, const void *body,
                    uint32_t size)
{
    put(i, type);
    put(i, 8 + size);
    memcpy(&i->words[i->count], body, size);
    i->count += (size + 7) / 8 * 2;
}

static void put_map(struct image2 *i, uint32_t entry_size, uint32_t regions)
{
    put(i, 6);
    put(i, 16 + regions * entry_size);
    put(i, entry_size);
    put(i, 0);
    for (uint32_t r = 0; r < regions; r++) {
        uint32_t region[6] = {r << 20, 0, 1 << 20, 0, 1 + (r & 1), 0};
        memcpy(&i->words[i->count], region, sizeof region);
        i->count += entry_size / 4;
    }
}

static size_t seal(struct image2 *i)
{
    put(i, 0);
    put(i, 8);
    i->words[0] = (uint32_t)i->count * 4;
    return i->count * 4;
}

static void multiboot2(void **state)
{
    struct image2 i = {.count = 2};
    put_tag(&i, 1, "selftest apic=xapic", 20);
    put_tag(&i, 4, "12345678", 8);
    put_map(&i, 24, 5);
    put_tag(&i, 14, "RSD PTR .............", 20);
    size_t size = seal(&i);
    assert_null(read_image(MAGIC2, i.words, size));
    assert_string_equal(info.protocol, "Multiboot 2");
    assert_string_equal(info.cmdline, "selftest apic=xapic");
    assert_int_equal(info.region_count, 5);
    assert_int_equal(info.regions[4].start, 4 << 20);
    assert_int_equal(info.regions[4].end, 5 << 20);
    assert_true(info.has_rsdp);
    assert_memory_equal(info.rsdp, "RSD PTR ", 8);
    assert_int_equal(info.rsdp[20], 0);
}

static void multiboot2_with_larger_map_entries(void **state)
{
    struct image2 i = {.count = 2};
    put_map(&i, 40, 3);
    size_t size = seal(&i);
    assert_null(read_image(MAGIC2, i.words, size));
    assert_int_equal(info.region_count, 3);
    assert_int_equal(info.regions[2].start, 2 << 20);
}

static void more_regions_than_are_kept(void **state)
{
    struct image2 i = {.count = 2};
    put_map(&i, 24, BOOT_REGIONS_MAX + 10);
    size_t size = seal(&i);
    assert_null(read_image(MAGIC2, i.words, size));
    assert_int_equal(info.region_count, BOOT_REGIONS_MAX);
    assert_int_equal(info.dropped, 10);
}

static void multiboot2_without_a_map(void **state)
{
    struct image2 i = {.count = 2};
    put_tag(&i, 1, "selftest", 9);
    size_t size = seal(&i);
    assert_non_null(strstr(read_image(MAGIC2, i.words, size), "no memory map"));
}

static void multiboot2_with_hostile_sizes(void **state)
{
    static const uint32_t sizes[] = {
        0,  1,  7,   8,    9,          15,         16,         17,        39,
        40, 64, 500, 5000, 0x7fffffff, 0xfffffff0, 0xfffffff7, 0xffffffff};
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        struct image2 i = {.count = 2};
        put_map(&i, 24, 3);
        size_t size = seal(&i);
        i.words[3] = sizes[n]; /* the tag's size */
        read_image(MAGIC2, i.words, size);
        i.words[3] = 16 + 3 * 24;
        i.words[4] = sizes[n]; /* an entry's size */
        read_image(MAGIC2, i.words, size);
        assert_true(info.region_count <= 3);
    }
}

static void an_unfinished_command_line_ends_with_its_tag(void **state)
{
    struct image2 i = {.count = 2};
    put_tag(&i, 1, "smp=serial______", 10);
    put_map(&i, 24, 1);
    size_t size = seal(&i);
    assert_null(read_image(MAGIC2, i.words, size));
    assert_string_equal(info.cmdline, "smp=serial");
}

static void a_long_command_line_is_cut(void **state)
{
    struct image2 i = {.count = 2};
    char text[BOOT_CMDLINE_MAX + 100];
    memset(text, 'x', sizeof text);
    put_tag(&i, 1, text, sizeof text);
    put_map(&i, 24, 1);
    size_t size = seal(&i);
    assert_null(read_image(MAGIC2, i.words, size));
    assert_int_equal(strlen(info.cmdline), BOOT_CMDLINE_MAX - 1);
}

static void survives_mutations(void **state)
{
    for (int round = 0; round < 20000; round++) {
        struct image2 i = {.count = 2};
        put_tag(&i, 1, "selftest apic=xapic", 20);
        put_map(&i, 24, 4);
        put_tag(&i, 15, "RSD PTR ............................", 36);
        size_t size = seal(&i);
        for (uint32_t n = 1 + below(6); n; n--)
            i.words[1 + below((uint32_t)i.count - 1)] =
                below(2) ? chance() : below(64);
        read_image(MAGIC2, i.words, size);
        assert_true(info.region_count <= BOOT_REGIONS_MAX);
        assert_true(strlen(info.cmdline) < BOOT_CMDLINE_MAX);
        for (size_t r = 0; r < info.region_count; r++)
            assert_true(info.regions[r].start < info.regions[r].end);
    }
}

static void refuses_other_loaders(void **state)
{
    uint32_t words[64] = {0};
    assert_non_null(strstr(read_image(0, words, sizeof words), "Multiboot"));
    assert_non_null(read_image(0x1badb002, words, sizeof words));
}

static void knows_what_is_ram(void **state)
{
    struct image1 image = image1();
    read_image(MAGIC1, &image, sizeof image);
    assert_true(bootinfo_is_ram(&info, 0x8000, 0x9000));
    assert_true(bootinfo_is_ram(&info, 0, 0x9fc00));
    assert_false(bootinfo_is_ram(&info, 0x9f000, 0xa0000));
    assert_false(bootinfo_is_ram(&info, 0xf0000, 0xf1000));
    assert_false(bootinfo_is_ram(&info, 0xff000, 0x101000));
    assert_false(bootinfo_is_ram(&info, 0x8000000, 0x8001000));
    assert_false(bootinfo_is_ram(&info, 0x7fff000, 0x8001000));

    image.regions[1].start = 0x8800; /* firmware's, inside RAM */
    image.regions[1].length = 1;
    read_image(MAGIC1, &image, sizeof image);
    assert_false(bootinfo_is_ram(&info, 0x8000, 0x9000));
    assert_true(bootinfo_is_ram(&info, 0x9000, 0xa000));
}

/* Entries as they come: {start, length, type}. */
static void read_map(const uint64_t (*entries)[3], size_t count)
{
    struct image1 image = image1();
    assert_in_range(count, 1, 3);
    for (size_t i = 0; i < count; i++) {
        image.regions[i].start = entries[i][0];
        image.regions[i].length = entries[i][1];
        image.regions[i].type = (uint32_t)entries[i][2];
    }
    image.mmap_length = (uint32_t)(count * sizeof image.regions[0]);
    assert_null(read_image(MAGIC1, &image, sizeof image));
}

static void an_unsorted_map_with_holes(void **state)
{
    read_map((const uint64_t[][3]){{0x300000, 0x100000, 1},
                                   {0x100000, 0x100000, 1},
                                   {0x400000, 0x1000, 1}},
             3);
    assert_int_equal(info.ram_count, 2);
    assert_int_equal(info.ram[0].start, 0x100000);
    assert_int_equal(info.ram[0].end, 0x200000);
    assert_int_equal(info.ram[1].start, 0x300000);
    assert_int_equal(info.ram[1].end, 0x401000);
    assert_int_equal(info.overlaps, 0);
    assert_true(bootinfo_is_ram(&info, 0x3ff000, 0x401000));
    assert_false(bootinfo_is_ram(&info, 0x1ff000, 0x300000));
}

static void ram_that_another_type_claims_is_none(void **state)
{
    read_map((const uint64_t[][3]){{0x100000, 0x400000, 1},
                                   {0x200000, 0x100000, 2},
                                   {0x280000, 0x300000, 1}},
             3);
    assert_int_equal(info.ram_count, 2);
    assert_int_equal(info.ram[0].end, 0x200000);
    assert_int_equal(info.ram[1].start, 0x300000);
    assert_int_equal(info.ram[1].end, 0x580000);
    assert_true(info.overlaps > 0);
    assert_int_equal(info.ignored, 0);
}

static void the_same_entry_twice_is_no_contradiction(void **state)
{
    read_map(
        (const uint64_t[][3]){{0x100000, 0x100000, 1}, {0x100000, 0x100000, 1}},
        2);
    assert_int_equal(info.ram_count, 1);
    assert_int_equal(info.overlaps, 0);
}

static void entries_that_can_not_be_are_counted(void **state)
{
    read_map((const uint64_t[][3]){{0x100000, 0x100000, 1},
                                   {0x200000, 0, 1},
                                   {~0ull - 10, 100, 1}},
             3);
    assert_int_equal(info.ignored, 2);
    assert_int_equal(info.ram_count, 1);
}

/* Any map: each byte is RAM exactly if an entry says so and none denies it. */
static void ram_is_what_the_entries_say(void **state)
{
    for (int round = 0; round < 3000; round++) {
        struct image2 i = {.count = 2};
        uint32_t count = 1 + below(12);
        put_map(&i, 24, count);
        size_t first = i.count - count * 6;
        for (size_t n = 0; n < count; n++) {
            i.words[first + n * 6] = below(64);
            i.words[first + n * 6 + 2] = below(32);
            i.words[first + n * 6 + 4] = 1 + below(3);
        }
        size_t size = seal(&i);
        read_image(MAGIC2, i.words, size);
        for (uint64_t byte = 0; byte < 100; byte++) {
            bool ram = false, other = false;
            for (size_t r = 0; r < info.region_count; r++)
                if (info.regions[r].start <= byte && byte < info.regions[r].end)
                    *(info.regions[r].type == REGION_RAM ? &ram : &other) =
                        true;
            assert_int_equal(bootinfo_is_ram(&info, byte, byte + 1),
                             ram && !other);
        }
        for (size_t r = 1; r < info.ram_count; r++)
            assert_true(info.ram[r - 1].end < info.ram[r].start);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiboot1),
        cmocka_unit_test(multiboot1_without_a_map),
        cmocka_unit_test(multiboot1_with_hostile_sizes),
        cmocka_unit_test(regions_that_can_not_be),
        cmocka_unit_test(multiboot2),
        cmocka_unit_test(multiboot2_with_larger_map_entries),
        cmocka_unit_test(more_regions_than_are_kept),
        cmocka_unit_test(multiboot2_without_a_map),
        cmocka_unit_test(multiboot2_with_hostile_sizes),
        cmocka_unit_test(an_unfinished_command_line_ends_with_its_tag),
        cmocka_unit_test(a_long_command_line_is_cut),
        cmocka_unit_test(survives_mutations),
        cmocka_unit_test(refuses_other_loaders),
        cmocka_unit_test(knows_what_is_ram),
        cmocka_unit_test(an_unsorted_map_with_holes),
        cmocka_unit_test(ram_that_another_type_claims_is_none),
        cmocka_unit_test(the_same_entry_twice_is_no_contradiction),
        cmocka_unit_test(entries_that_can_not_be_are_counted),
        cmocka_unit_test(ram_is_what_the_entries_say),
    };
    return cmocka_run_group_tests_name("bootinfo", tests, NULL, NULL);
}
