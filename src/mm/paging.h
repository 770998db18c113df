/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's page tables [SDM 3A "4-Level Paging"]. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "boot/bootinfo.h"
#include "mm/layout.h"

#define PAGE_PRESENT  (1ull << 0)
#define PAGE_WRITE    (1ull << 1)
#define PAGE_USER     (1ull << 2)
#define PAGE_UNCACHED (1ull << 3 | 1ull << 4) /* PWT and PCD */
#define PAGE_LARGE    (1ull << 7)
#define PAGE_GLOBAL   (1ull << 8)
#define PAGE_NX       (1ull << 63)
#define PAGE_ADDRESS  0x000ffffffffff000ull

#define PAGING_LEVELS  4
#define PAGING_ENTRIES 512 /* of each table */

/* Build and load them: the image with its own permissions, RAM in the direct
 * map, nothing low.  The boot stack's guard page goes. */
void paging_init(const struct bootinfo *info);

/* Physical memory in the direct map; only what was mapped there. */
static inline void *phys_to_virt(uint64_t physical)
{
    return (void *)(DIRECT_MAP + physical);
}

/* Physical memory through whichever window is live: the boot tables' high
 * one before paging_init(), the direct map after it. */
void *paging_window(uint64_t physical);

/* Map one page; flags without PAGE_PRESENT and PAGE_GLOBAL, which the kernel's
 * half has and no other.  NX is dropped where the CPU has no NX. */
void paging_map(uint64_t address, uint64_t physical, uint64_t flags);
/* No CPU uses the mapping when it returns. */
void paging_unmap(uint64_t address);
bool paging_is_mapped(uint64_t address);
/* The entry that maps the page, of 4 KiB or larger; 0 if none does. */
uint64_t paging_entry(uint64_t address);

/* Make [physical, physical + size) readable in the direct map; returns it. */
void *paging_map_direct(uint64_t physical, uint64_t size);

/* Map a device's registers, uncached; returns them. */
volatile void *paging_map_device(uint64_t physical, uint64_t size);

/* The physical address of the PML4. */
uint64_t paging_root(void);
