/* SPDX-License-Identifier: BSD-2-Clause */
#include "mm/paging.h"

#include "cpu/cpu.h"
#include "lib/panic.h"
#include "mm/frames.h"
#include "smp/tlb.h"

extern char kernel_text_start[], kernel_rodata_start[], kernel_data_start[];
extern char kernel_end[], boot_stack_guard[];

static uint64_t root;
static uint64_t window = KERNEL_BASE;
static bool has_nx;
static uint64_t device_next = DEVICE_BASE;

void *paging_window(uint64_t physical)
{
    return (void *)(window + physical);
}

uint64_t paging_root(void)
{
    return root;
}

/* The entry for `address` in the table of `level` (1: the page table),
 * with the tables above it made where they are missing, with `flags`. */
static uint64_t *entry_for(uint64_t address, int level, uint64_t flags)
{
    uint64_t table = root;
    for (int l = PAGING_LEVELS;; l--) {
        uint64_t *entry =
            (uint64_t *)paging_window(table) +
            (address >> (12 + 9 * (l - 1)) & (PAGING_ENTRIES - 1));
        if (l == level)
            return entry;
        if (!(*entry & PAGE_PRESENT))
            *entry = frames_allocate(1) | PAGE_PRESENT | PAGE_WRITE | flags;
        if (*entry & PAGE_LARGE)
            panic("page table: %#lx lies inside a 2 MiB page", address);
        table = *entry & PAGE_ADDRESS;
    }
}

static void map_at(uint64_t address, uint64_t physical, uint64_t flags,
                   int level)
{
    if (!has_nx)
        flags &= ~PAGE_NX;
    if (address >> 63)
        flags |= PAGE_GLOBAL;
    *entry_for(address, level, flags & PAGE_USER) =
        physical | flags | PAGE_PRESENT;
    invlpg((void *)address);
}

void paging_map(uint64_t address, uint64_t physical, uint64_t flags)
{
    map_at(address, physical, flags, 1);
}

void paging_unmap(uint64_t address)
{
    *entry_for(address, 1, 0) = 0;
    tlb_shootdown(address, address + PAGE_SIZE);
}

uint64_t paging_entry(uint64_t address)
{
    uint64_t entry = root;
    for (int level = PAGING_LEVELS; level; level--) {
        const uint64_t *entries = paging_window(entry & PAGE_ADDRESS);
        entry =
            entries[address >> (12 + 9 * (level - 1)) & (PAGING_ENTRIES - 1)];
        if (!(entry & PAGE_PRESENT))
            return 0;
        if (entry & PAGE_LARGE)
            return entry;
    }
    return entry;
}

bool paging_is_mapped(uint64_t address)
{
    return paging_entry(address);
}

extern char kernel_start[];

/* The image between two of the linker script's symbols. */
static void map_image(const char *start, const char *end, uint64_t flags)
{
    for (uint64_t at = (uint64_t)start; at < (uint64_t)end; at += PAGE_SIZE)
        paging_map(at, at - KERNEL_BASE, flags);
}

void *paging_map_direct(uint64_t physical, uint64_t size)
{
    uint64_t at = physical & ~(uint64_t)(LARGE_PAGE_SIZE - 1);
    for (; at < physical + size; at += LARGE_PAGE_SIZE)
        map_at(DIRECT_MAP + at, at, PAGE_WRITE | PAGE_NX | PAGE_LARGE, 2);
    return phys_to_virt(physical);
}

volatile void *paging_map_device(uint64_t physical, uint64_t size)
{
    uint64_t offset = physical % PAGE_SIZE;
    uint64_t address = device_next;
    for (uint64_t done = 0; done < offset + size; done += PAGE_SIZE) {
        paging_map(device_next, physical - offset + done,
                   PAGE_WRITE | PAGE_NX | PAGE_UNCACHED);
        device_next += PAGE_SIZE;
    }
    return (volatile void *)(address + offset);
}

void paging_init(const struct bootinfo *info)
{
    has_nx = rdmsr(MSR_EFER) & EFER_NXE;
    root = frames_allocate(1);

    /* .boot holds the BSP's trace record, which stays in use. */
    map_image(kernel_start, kernel_text_start, PAGE_WRITE | PAGE_NX);
    map_image(kernel_text_start, kernel_rodata_start, 0);
    map_image(kernel_rodata_start, kernel_data_start, PAGE_NX);
    map_image(kernel_data_start, kernel_end, PAGE_WRITE | PAGE_NX);
    paging_unmap((uint64_t)boot_stack_guard);

    paging_map_direct(0, LARGE_PAGE_SIZE); /* the BIOS's tables too */
    for (size_t i = 0; i < info->ram_count; i++) {
        const struct range *r = &info->ram[i];
        paging_map_direct(r->start, r->end - r->start);
    }
    write_cr3(root);
    window = DIRECT_MAP;
}
