/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the boot loader told us, in our own words and our own memory: after
 * bootinfo_read() the loader's structures may be overwritten.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOOT_REGIONS_MAX 64
#define BOOT_CMDLINE_MAX 512

/* Multiboot's numbers, which are those of INT 15h E820. */
enum region_type {
    REGION_RAM = 1,
    REGION_RESERVED = 2,
    REGION_ACPI = 3,
    REGION_NVS = 4,
};

struct region {
    uint64_t start, end; /* [start, end) */
    uint32_t type;
};

/* [start, end): what the map calls RAM and nothing else. */
struct range {
    uint64_t start, end;
};

struct bootinfo {
    const char *protocol; /* "Multiboot 1", "Multiboot 2" */
    char cmdline[BOOT_CMDLINE_MAX];
    struct region regions[BOOT_REGIONS_MAX];
    size_t region_count;
    size_t dropped;  /* entries beyond BOOT_REGIONS_MAX */
    size_t ignored;  /* entries that are empty or end beyond 2^64 */
    size_t overlaps; /* pieces that entries of different types claim */
    /* From `regions`: ascending, disjoint, none adjacent to the next. */
    struct range ram[BOOT_REGIONS_MAX * 2];
    size_t ram_count;
    bool has_rsdp; /* the loader passed a copy of the RSDP */
    uint8_t rsdp[36];
};

/*
 * Read what a Multiboot loader passed: `magic` from EAX, `info` the
 * structure.  Returns NULL, or what is wrong in words.
 */
const char *bootinfo_read(struct bootinfo *to, uint32_t magic, const void *info,
                          const void *(*at)(uint64_t physical));

/* Is [start, end) all RAM, and claimed by no entry of another type? */
bool bootinfo_is_ram(const struct bootinfo *info, uint64_t start, uint64_t end);
