/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI tables: pure functions from bytes to facts, which run on the host in
 * tests.  [ACPI 6.5 "5.2 ACPI System Description Tables"] */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    uint32_t creator_id;
    uint32_t creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_header) == 36, "fixed by ACPI");

struct acpi_rsdp {
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length; /* from revision 2 on */
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_rsdp) == 36, "fixed by ACPI");

/* Do the bytes add up to 0? */
bool acpi_sum_is_zero(const void *bytes, size_t size);

/* Signature and the checksums that its revision has. */
bool acpi_rsdp_valid(const struct acpi_rsdp *rsdp);

/* The most CPUs that are remembered; more are counted. */
#define MADT_CPUS_MAX 1024

struct madt_cpu {
    uint32_t apic_id;
    uint32_t uid;
    bool enabled;
    bool online_capable;
    bool x2apic; /* listed as a local x2APIC (type 9) */
};

struct madt {
    uint64_t lapic_address;
    size_t count;     /* entries in cpus[] */
    size_t dropped;   /* CPU entries beyond MADT_CPUS_MAX */
    size_t malformed; /* entries whose length can't be right */
    struct madt_cpu cpus[MADT_CPUS_MAX];
};

enum madt_error {
    MADT_OK,
    MADT_TOO_SHORT,
    MADT_BAD_SIGNATURE,
    MADT_BAD_LENGTH,
    MADT_BAD_CHECKSUM,
};

/* Read the table at `bytes`, of which `size` bytes can be read.  A CPU listed
 * twice (types 0 and 9) is kept once. */
enum madt_error madt_parse(struct madt *to, const void *bytes, size_t size);
/* How many of the CPUs are enabled. */
size_t madt_usable(const struct madt *madt);
const char *madt_error_text(enum madt_error error);
