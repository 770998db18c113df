/* SPDX-License-Identifier: BSD-2-Clause */
#include "test.h"

#include <string.h>

#include "acpi/madt.h"

#define HEADER 44 /* a MADT's, with the APIC's address and the flags */

/* A table that is built entry by entry. */
struct table {
    uint8_t bytes[65536];
    uint32_t size;
};

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static void begin(struct table *t)
{
    memset(t, 0, sizeof *t);
    memcpy(t->bytes, "APIC", 4);
    t->bytes[8] = 5;
    put32(t->bytes + 36, 0xfee00000);
    t->size = HEADER;
}

static void add_entry(struct table *t, const uint8_t *entry, size_t size)
{
    memcpy(t->bytes + t->size, entry, size);
    t->size += (uint32_t)size;
}

static void add_apic(struct table *t, uint8_t uid, uint8_t id, uint32_t flags)
{
    uint8_t e[8] = {0, 8, uid, id};
    put32(e + 4, flags);
    add_entry(t, e, sizeof e);
}

static void add_x2apic(struct table *t, uint32_t uid, uint32_t id,
                       uint32_t flags)
{
    uint8_t e[16] = {9, 16};
    put32(e + 4, id);
    put32(e + 8, flags);
    put32(e + 12, uid);
    add_entry(t, e, sizeof e);
}

static void seal(struct table *t)
{
    put32(t->bytes + 4, t->size);
    t->bytes[9] = 0;
    uint8_t sum = 0;
    for (uint32_t i = 0; i < t->size; i++)
        sum = (uint8_t)(sum + t->bytes[i]);
    t->bytes[9] = (uint8_t)-sum;
}

static struct madt madt;

/* Parse a copy whose end ASan guards. */
static enum madt_error parse(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    enum madt_error error = madt_parse(&madt, copy, size);
    free(copy);
    return error;
}

static void reads_both_types(void **state)
{
    struct table t;
    begin(&t);
    add_apic(&t, 1, 0, 1);
    add_apic(&t, 2, 4, 1);
    add_x2apic(&t, 1000, 0x12345, 1);
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, 3);
    assert_int_equal(madt.lapic_address, 0xfee00000);
    assert_int_equal(madt.cpus[1].apic_id, 4);
    assert_int_equal(madt.cpus[1].uid, 2);
    assert_false(madt.cpus[1].x2apic);
    assert_int_equal(madt.cpus[2].apic_id, 0x12345);
    assert_int_equal(madt.cpus[2].uid, 1000);
    assert_true(madt.cpus[2].x2apic);
    assert_int_equal(madt_usable(&madt), 3);
    assert_int_equal(madt.malformed, 0);
}

static void keeps_the_flags_apart(void **state)
{
    struct table t;
    begin(&t);
    add_apic(&t, 0, 0, 1);
    add_apic(&t, 1, 1, 0);
    add_apic(&t, 2, 2, 2);
    add_x2apic(&t, 3, 300, 3);
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, 4);
    assert_int_equal(madt_usable(&madt), 2);
    assert_true(madt.cpus[0].enabled);
    assert_false(madt.cpus[0].online_capable);
    assert_false(madt.cpus[1].enabled);
    assert_false(madt.cpus[2].enabled);
    assert_true(madt.cpus[2].online_capable);
    assert_true(madt.cpus[3].enabled);
    assert_true(madt.cpus[3].online_capable);
}

static void keeps_a_cpu_listed_twice_once(void **state)
{
    struct table t;
    begin(&t);
    add_apic(&t, 0, 7, 1);
    add_x2apic(&t, 0, 7, 1);
    add_apic(&t, 1, 7, 1);
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, 1);
    assert_false(madt.cpus[0].x2apic);
}

static void broadcast_ids_name_no_cpu(void **state)
{
    struct table t;
    begin(&t);
    add_apic(&t, 0, 0xff, 1);
    add_x2apic(&t, 0, 0xffffffff, 1);
    add_x2apic(&t, 0, 0xff, 1); /* as an x2APIC ID it is one */
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, 1);
    assert_int_equal(madt.cpus[0].apic_id, 0xff);
}

static void skips_what_it_does_not_need(void **state)
{
    static const uint8_t io_apic[12] = {1, 12, 2};
    static const uint8_t nmi[6] = {4, 6, 0xff, 0, 0, 1};
    static const uint8_t unknown[31] = {0x77, 31};
    static const uint8_t address[12] = {5, 12, 0, 0, 0, 0, 0xc0, 0xfe, 1};
    struct table t;
    begin(&t);
    add_entry(&t, io_apic, sizeof io_apic);
    add_entry(&t, unknown, sizeof unknown);
    add_apic(&t, 0, 3, 1);
    add_entry(&t, nmi, sizeof nmi);
    add_entry(&t, address, sizeof address);
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, 1);
    assert_int_equal(madt.cpus[0].apic_id, 3);
    assert_int_equal(madt.malformed, 0);
    assert_true(madt.lapic_address == 0x1fec00000);
}

static void counts_more_cpus_than_it_keeps(void **state)
{
    struct table t;
    begin(&t);
    for (uint32_t i = 0; i < MADT_CPUS_MAX + 176; i++)
        add_x2apic(&t, i, 3 * i, 1);
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, MADT_CPUS_MAX);
    assert_int_equal(madt.dropped, 176);
    for (uint32_t i = 0; i < MADT_CPUS_MAX; i++)
        assert_int_equal(madt.cpus[i].apic_id, 3 * i);
}

static void refuses_a_damaged_table(void **state)
{
    struct table t;
    begin(&t);
    add_apic(&t, 0, 0, 1);
    seal(&t);
    assert_int_equal(parse(t.bytes, 0), MADT_TOO_SHORT);
    assert_int_equal(parse(t.bytes, HEADER - 1), MADT_TOO_SHORT);
    for (uint32_t size = HEADER; size < t.size; size++)
        assert_int_equal(parse(t.bytes, size), MADT_BAD_LENGTH);

    t.bytes[45]++;
    assert_int_equal(parse(t.bytes, t.size), MADT_BAD_CHECKSUM);
    t.bytes[45]--;
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);

    put32(t.bytes + 4, HEADER - 1);
    assert_int_equal(parse(t.bytes, t.size), MADT_BAD_LENGTH);
    put32(t.bytes + 4, 0xffffffff);
    assert_int_equal(parse(t.bytes, t.size), MADT_BAD_LENGTH);
    seal(&t);
    t.bytes[0] = 'a';
    assert_int_equal(parse(t.bytes, t.size), MADT_BAD_SIGNATURE);
}

static void each_error_has_its_own_text(void **state)
{
    for (int i = MADT_OK; i <= MADT_BAD_CHECKSUM; i++) {
        const char *text = madt_error_text((enum madt_error)i);
        assert_string_not_equal(text, "unknown error");
        for (int j = MADT_OK; j < i; j++)
            assert_string_not_equal(text, madt_error_text((enum madt_error)j));
    }
}

static void survives_entries_of_wrong_length(void **state)
{
    /* Each type that it reads, with every length from 0 on. */
    static const uint8_t types[] = {0, 5, 9};
    for (size_t i = 0; i < sizeof types; i++) {
        for (unsigned length = 0; length < 20; length++) {
            struct table t;
            uint8_t e[20] = {types[i], (uint8_t)length};
            e[8] = 1;
            begin(&t);
            add_entry(&t, e, length < 2 ? 2 : length);
            add_apic(&t, 0, 9, 1);
            seal(&t);
            unsigned need = types[i] == 0 ? 8 : types[i] == 5 ? 12 : 16;
            assert_int_equal(parse(t.bytes, t.size), MADT_OK);
            assert_int_equal(madt.malformed, length < need);
            /* What follows an entry with a length that can be skipped is
             * read; a length below 2 leads nowhere. */
            bool after = length >= 2;
            assert_int_equal(madt.cpus[madt.count ? madt.count - 1 : 0].apic_id,
                             after ? 9 : 0);
        }
    }
}

static void survives_an_entry_beyond_the_end(void **state)
{
    struct table t;
    begin(&t);
    add_apic(&t, 0, 1, 1);
    add_apic(&t, 0, 2, 1);
    t.bytes[HEADER + 8 + 1] = 9;
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, 1);
    assert_int_equal(madt.malformed, 1);

    begin(&t);
    add_apic(&t, 0, 1, 1);
    t.bytes[t.size++] = 0; /* one byte: not even an entry's header */
    seal(&t);
    assert_int_equal(parse(t.bytes, t.size), MADT_OK);
    assert_int_equal(madt.count, 1);
}

static void survives_mutations(void **state)
{
    struct table original;
    begin(&original);
    for (uint8_t i = 0; i < 40; i++) {
        add_apic(&original, i, i, i & 3);
        add_x2apic(&original, i, 0x100u + i, i & 3);
    }
    seal(&original);
    for (int round = 0; round < 20000; round++) {
        struct table t = original;
        for (uint32_t n = 1 + below(8); n; n--)
            t.bytes[HEADER + below(t.size - HEADER)] = (uint8_t)chance();
        if (below(2))
            seal(&t); /* right sums over wrong contents */
        size_t size = below(4) ? t.size : below(t.size);
        if (size < t.size && below(2)) {
            t.size = (uint32_t)size;
            if (size >= HEADER)
                seal(&t);
        }
        if (parse(t.bytes, size) != MADT_OK)
            continue;
        assert_true(madt.count <= MADT_CPUS_MAX);
        assert_true(madt_usable(&madt) <= madt.count);
        for (size_t i = 0; i < madt.count; i++)
            for (size_t j = 0; j < i; j++)
                assert_int_not_equal(madt.cpus[i].apic_id,
                                     madt.cpus[j].apic_id);
    }
}

static void checks_an_rsdp(void **state)
{
    struct acpi_rsdp rsdp = {.signature = "RSD PTR "};
    uint8_t *bytes = (uint8_t *)&rsdp;
    rsdp.rsdt = 0x12345678;
    uint8_t sum = 0;
    for (size_t i = 0; i < 20; i++)
        sum = (uint8_t)(sum + bytes[i]);
    rsdp.checksum = (uint8_t)-sum;
    rsdp.xsdt = 1; /* revision 0: not covered */
    assert_true(acpi_rsdp_valid(&rsdp));
    rsdp.revision = 2;
    rsdp.checksum -= 2;
    assert_false(acpi_rsdp_valid(&rsdp));
    sum = 0;
    for (size_t i = 0; i < sizeof rsdp; i++)
        sum = (uint8_t)(sum + bytes[i]);
    rsdp.extended_checksum = (uint8_t)-sum;
    assert_true(acpi_rsdp_valid(&rsdp));
    rsdp.signature[7] = '_';
    assert_false(acpi_rsdp_valid(&rsdp));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_both_types),
        cmocka_unit_test(keeps_the_flags_apart),
        cmocka_unit_test(keeps_a_cpu_listed_twice_once),
        cmocka_unit_test(broadcast_ids_name_no_cpu),
        cmocka_unit_test(skips_what_it_does_not_need),
        cmocka_unit_test(counts_more_cpus_than_it_keeps),
        cmocka_unit_test(refuses_a_damaged_table),
        cmocka_unit_test(each_error_has_its_own_text),
        cmocka_unit_test(survives_entries_of_wrong_length),
        cmocka_unit_test(survives_an_entry_beyond_the_end),
        cmocka_unit_test(survives_mutations),
        cmocka_unit_test(checks_an_rsdp),
    };
    return cmocka_run_group_tests_name("madt", tests, NULL, NULL);
}
