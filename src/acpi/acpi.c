/* SPDX-License-Identifier: BSD-2-Clause */
#include "acpi/acpi.h"

#include "lib/console.h"
#include "lib/exit.h"
#include "lib/string.h"
#include "mm/paging.h"

/* [ACPI 6.5 "5.2.5.1 Finding the RSDP on IA-PC Systems"] */
#define EBDA_SEGMENT_AT 0x40e
#define EBDA_SEARCH     0x400
#define BIOS_START      0xe0000
#define BIOS_END        0x100000
#define RSDP_ALIGN      16

static const struct acpi_rsdp *search(uint64_t start, uint64_t end)
{
    for (uint64_t at = start; at + sizeof(struct acpi_rsdp) <= end;
         at += RSDP_ALIGN) {
        const struct acpi_rsdp *rsdp = phys_to_virt(at);
        if (acpi_rsdp_valid(rsdp))
            return rsdp;
    }
    return NULL;
}

static const struct acpi_rsdp *find_rsdp(const struct bootinfo *info)
{
    const struct acpi_rsdp *rsdp = (const void *)info->rsdp;
    if (info->has_rsdp && acpi_rsdp_valid(rsdp))
        return rsdp;
    uint16_t segment;
    memcpy(&segment, phys_to_virt(EBDA_SEGMENT_AT), sizeof segment);
    uint64_t ebda = (uint64_t)segment << 4;
    if (ebda >= LOW_MEMORY_START && ebda + EBDA_SEARCH <= LOW_MEMORY_END) {
        rsdp = search(ebda, ebda + EBDA_SEARCH);
        if (rsdp)
            return rsdp;
    }
    return search(BIOS_START, BIOS_END);
}

/* A table, mapped as far as its own length says. */
static const struct acpi_header *map_table(uint64_t physical)
{
    const struct acpi_header *table =
        paging_map_direct(physical, sizeof *table);
    paging_map_direct(physical, table->length);
    return table;
}

/* What could be read is used. */
static void report_oddities(const struct madt *madt)
{
    if (madt->malformed)
        console_printf("the MADT has %zu entries whose length can't be right: "
                       "CPUs may be missing from it (update the firmware)\n",
                       madt->malformed);
    if (madt->dropped)
        console_printf("the MADT lists more than %d CPUs: the last %zu are "
                       "not read\n",
                       MADT_CPUS_MAX, madt->dropped);
}

const struct madt *acpi_read_madt(const struct bootinfo *info)
{
    static struct madt madt;
    const struct acpi_rsdp *rsdp = find_rsdp(info);
    if (!rsdp)
        boot_error(EXIT_NO_ACPI,
                   "no ACPI: expected an RSDP with a right checksum from the "
                   "loader, in the EBDA or in %#x-%#x, and found none; without "
                   "the MADT the other CPUs are not known (QEMU: leave out "
                   "-no-acpi and acpi=off)",
                   BIOS_START, BIOS_END);

    bool extended = rsdp->revision >= 2 && rsdp->xsdt;
    const struct acpi_header *root =
        map_table(extended ? rsdp->xsdt : rsdp->rsdt);
    size_t width = extended ? sizeof(uint64_t) : sizeof(uint32_t);
    const char *entries = (const char *)(root + 1);
    for (size_t offset = 0; sizeof *root + offset + width <= root->length;
         offset += width) {
        uint64_t physical = 0;
        memcpy(&physical, entries + offset, width);
        const struct acpi_header *table = map_table(physical);
        if (memcmp(table->signature, "APIC", 4))
            continue;
        enum madt_error error = madt_parse(&madt, table, table->length);
        if (error != MADT_OK)
            boot_error(EXIT_BAD_MADT,
                       "the MADT at %#lx is damaged: %s; the CPUs that it "
                       "lists can't be trusted (update the firmware)",
                       physical, madt_error_text(error));
        report_oddities(&madt);
        return &madt;
    }
    boot_error(EXIT_NO_ACPI,
               "no MADT: expected a table \"APIC\" in the %s at %#lx and found "
               "none; the firmware does not describe the CPUs",
               extended ? "XSDT" : "RSDT",
               extended ? rsdp->xsdt : (uint64_t)rsdp->rsdt);
}
