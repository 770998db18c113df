/* SPDX-License-Identifier: BSD-2-Clause */
/* [ACPI 6.5 "5.2.12 Multiple APIC Description Table (MADT)"] */
#include "acpi/madt.h"

#include "lib/string.h"

enum madt_entry_type {
    MADT_LOCAL_APIC = 0,
    MADT_LOCAL_APIC_ADDRESS = 5,
    MADT_LOCAL_X2APIC = 9,
};

#define MADT_ENABLED        1u
#define MADT_ONLINE_CAPABLE 2u

/* An ID that addresses every CPU names none. */
#define APIC_ID_BROADCAST8  0xffu
#define APIC_ID_BROADCAST32 0xffffffffu

struct madt_table {
    struct acpi_header header;
    uint32_t lapic_address;
    uint32_t flags;
} __attribute__((packed));

struct madt_entry {
    uint8_t type, length;
} __attribute__((packed));

struct madt_local_apic {
    struct madt_entry entry;
    uint8_t uid, apic_id;
    uint32_t flags;
} __attribute__((packed));

struct madt_local_apic_address {
    struct madt_entry entry;
    uint16_t reserved;
    uint64_t address;
} __attribute__((packed));

struct madt_local_x2apic {
    struct madt_entry entry;
    uint16_t reserved;
    uint32_t apic_id;
    uint32_t flags;
    uint32_t uid;
} __attribute__((packed));

#define RSDP1_SIZE offsetof(struct acpi_rsdp, length)

bool acpi_sum_is_zero(const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + b[i]);
    return sum == 0;
}

bool acpi_rsdp_valid(const struct acpi_rsdp *rsdp)
{
    if (memcmp(rsdp->signature, "RSD PTR ", 8) ||
        !acpi_sum_is_zero(rsdp, RSDP1_SIZE))
        return false;
    return rsdp->revision < 2 || acpi_sum_is_zero(rsdp, sizeof *rsdp);
}

static void add_cpu(struct madt *to, uint32_t apic_id, uint32_t uid,
                    uint32_t flags, bool x2apic)
{
    for (size_t i = 0; i < to->count; i++)
        if (to->cpus[i].apic_id == apic_id)
            return;
    if (to->count == MADT_CPUS_MAX) {
        to->dropped++;
        return;
    }
    to->cpus[to->count++] = (struct madt_cpu){
        .apic_id = apic_id,
        .uid = uid,
        .enabled = flags & MADT_ENABLED,
        .online_capable = flags & MADT_ONLINE_CAPABLE,
        .x2apic = x2apic,
    };
}

/* Read one entry; `length` bytes of it are inside the table. */
static void parse_entry(struct madt *to, const uint8_t *at, size_t length)
{
    switch (*at) {
    case MADT_LOCAL_APIC: {
        struct madt_local_apic e;
        if (length < sizeof e)
            break;
        memcpy(&e, at, sizeof e);
        if (e.apic_id != APIC_ID_BROADCAST8)
            add_cpu(to, e.apic_id, e.uid, e.flags, false);
        return;
    }
    case MADT_LOCAL_X2APIC: {
        struct madt_local_x2apic e;
        if (length < sizeof e)
            break;
        memcpy(&e, at, sizeof e);
        if (e.apic_id != APIC_ID_BROADCAST32)
            add_cpu(to, e.apic_id, e.uid, e.flags, true);
        return;
    }
    case MADT_LOCAL_APIC_ADDRESS: {
        struct madt_local_apic_address e;
        if (length < sizeof e)
            break;
        memcpy(&e, at, sizeof e);
        to->lapic_address = e.address;
        return;
    }
    default: return; /* I/O APICs, overrides, NMIs: not needed here */
    }
    to->malformed++;
}

enum madt_error madt_parse(struct madt *to, const void *bytes, size_t size)
{
    memset(to, 0, sizeof *to);
    struct madt_table table;
    if (size < sizeof table)
        return MADT_TOO_SHORT;
    memcpy(&table, bytes, sizeof table);
    if (memcmp(table.header.signature, "APIC", 4))
        return MADT_BAD_SIGNATURE;
    if (table.header.length < sizeof table || table.header.length > size)
        return MADT_BAD_LENGTH;
    if (!acpi_sum_is_zero(bytes, table.header.length))
        return MADT_BAD_CHECKSUM;
    to->lapic_address = table.lapic_address;

    const uint8_t *at = (const uint8_t *)bytes + sizeof table;
    size_t left = table.header.length - sizeof table;
    while (left >= sizeof(struct madt_entry)) {
        size_t length = at[1];
        if (length < sizeof(struct madt_entry) || length > left) {
            to->malformed++;
            break;
        }
        parse_entry(to, at, length);
        at += length;
        left -= length;
    }
    return MADT_OK;
}

size_t madt_usable(const struct madt *madt)
{
    size_t usable = 0;
    for (size_t i = 0; i < madt->count; i++)
        usable += madt->cpus[i].enabled;
    return usable;
}

const char *madt_error_text(enum madt_error error)
{
    switch (error) {
    case MADT_OK: return "no error";
    case MADT_TOO_SHORT: return "it is shorter than a MADT's header";
    case MADT_BAD_SIGNATURE: return "its signature is not \"APIC\"";
    case MADT_BAD_LENGTH: return "its length field can't be right";
    case MADT_BAD_CHECKSUM: return "its bytes do not add up to 0 (checksum)";
    }
    return "unknown error";
}
