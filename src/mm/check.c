/* SPDX-License-Identifier: BSD-2-Clause */
/* What the memory management claims of itself. */
#include "cpu/cpu.h"
#include "lib/string.h"
#include "mm/buddy.h"
#include "mm/frames.h"
#include "mm/heap.h"
#include "mm/layout.h"
#include "mm/paging.h"
#include "mm/stacks.h"
#include "selftest.h"
#include "smp/call.h"
#include "smp/lcpu.h"

extern char kernel_text_start[], kernel_rodata_start[], kernel_data_start[];
extern char kernel_end[], boot_stack_guard[];

static bool has_nx(void)
{
    return rdmsr(MSR_EFER) & EFER_NXE;
}

/* Whether it holds for each page of a table and below, and which half of the
 * addresses that is; `above`: the tables above it allow writes. */
static bool each_page(bool (*holds)(uint64_t entry, bool kernel),
                      uint64_t table, int level, bool kernel, uint64_t above)
{
    const uint64_t *entries = paging_window(table);
    for (unsigned i = 0; i < PAGING_ENTRIES; i++) {
        uint64_t entry = entries[i] & (above | ~PAGE_WRITE);
        if (level == PAGING_LEVELS)
            kernel = i >= PAGING_ENTRIES / 2;
        if (!(entry & PAGE_PRESENT))
            continue;
        if (level == 1 || entry & PAGE_LARGE
                ? !holds(entry, kernel)
                : !each_page(holds, entry & PAGE_ADDRESS, level - 1, kernel,
                             entry & PAGE_WRITE))
            return false;
    }
    return true;
}

static bool is_w_xor_x(uint64_t entry, bool kernel)
{
    (void)kernel;
    return !(entry & PAGE_WRITE) || entry & PAGE_NX;
}

static bool no_page_is_writable_and_executable(void)
{
    return !has_nx() || each_page(is_w_xor_x, paging_root(), PAGING_LEVELS,
                                  false, PAGE_WRITE);
}

static bool is_global_in_kernel(uint64_t entry, bool kernel)
{
    return kernel == (bool)(entry & PAGE_GLOBAL);
}

static void count_if_global_pages_are_on(void *count)
{
    *(unsigned *)count += (bool)(read_cr4() & CR4_PGE); /* one by one */
}

/* With a page in the low half: the trampoline's has gone by now. */
static bool kernel_pages_are_global(void)
{
    unsigned on = 0;
    unsigned listening = smp_call_each(count_if_global_pages_are_on, &on);
    uint64_t frame = frames_allocate(1);
    paging_map(USER_BASE, frame, PAGE_USER | PAGE_NX);
    bool right =
        each_page(is_global_in_kernel, paging_root(), PAGING_LEVELS, false, 0);
    paging_unmap(USER_BASE);
    frames_free(frame, 1);
    bool has_pge = cpuid(CPUID_FEATURES, 0).edx & CPUID_1_EDX_PGE;
    return right && on == (has_pge ? listening : 0);
}

/* Every page of [start, end) has exactly these of WRITE and NX. */
static bool has_flags(const char *start, const char *end, uint64_t flags)
{
    uint64_t mask = PAGE_WRITE | (has_nx() ? PAGE_NX : 0);
    for (const char *at = start; at < end; at += PAGE_SIZE)
        if (at != boot_stack_guard &&
            (paging_entry((uint64_t)at) & (mask | PAGE_PRESENT)) !=
                ((flags & mask) | PAGE_PRESENT))
            return false;
    return true;
}

static bool image_has_its_permissions(void)
{
    return read_cr0() & CR0_WP &&
           has_flags(kernel_text_start, kernel_rodata_start, 0) &&
           has_flags(kernel_rodata_start, kernel_data_start, PAGE_NX) &&
           has_flags(kernel_data_start, kernel_end, PAGE_WRITE | PAGE_NX);
}

static bool is_guarded(uint64_t top, size_t size)
{
    return paging_is_mapped(top - size) &&
           !paging_is_mapped(top - size - PAGE_SIZE);
}

static bool stacks_have_guard_pages(void)
{
    for (unsigned i = 0; i < lcpu_count; i++) {
        struct stacks stacks = stacks_of(i);
        if (!is_guarded(stacks.top, STACK_SIZE))
            return false;
        for (int ist = 0; ist < IST_COUNT - 1; ist++)
            if (!is_guarded(stacks.ist[ist], PAGE_SIZE))
                return false;
    }
    return !paging_is_mapped((uint64_t)boot_stack_guard);
}

static bool device_pages_are_uncached(void)
{
    for (uint64_t at = DEVICE_BASE; paging_is_mapped(at); at += PAGE_SIZE)
        if ((paging_entry(at) & PAGE_UNCACHED) != PAGE_UNCACHED)
            return false;
    return true;
}

static bool frames_come_back(void)
{
    uint64_t before = frames_available();
    uint64_t one = frames_allocate(1), four = frames_allocate(4);
    bool apart = one < four || one >= four + 4 * PAGE_SIZE;
    bool taken = frames_available() == before - 5;
    frames_free(one, 1);
    /* The first words may link it to other free blocks. */
    uint8_t last = ((const uint8_t *)phys_to_virt(one))[PAGE_SIZE - 1];
    frames_free(four, 4);
    return apart && taken && last == FRAME_POISON &&
           four % (4 * PAGE_SIZE) == 0 && frames_available() == before;
}

static bool heap_works(void)
{
    uint8_t *pieces[40];
    for (unsigned i = 0; i < 40; i++) {
        pieces[i] = kmalloc(1 + i * 24);
        memset(pieces[i], (int)i, 1 + i * 24);
    }
    bool sound = true;
    for (unsigned i = 0; i < 40; i++) {
        sound = sound && pieces[i][0] == i && pieces[i][i * 24] == i;
        kfree(pieces[i]);
    }
    /* The piece that was freed last is the first to be used again. */
    uint8_t *again = kmalloc(39 * 24);
    sound = sound && again == pieces[39];
    kfree(again);
    return sound;
}

const struct check memory_checks[] = {
    {"no page is both writable and executable",
     no_page_is_writable_and_executable},
    {"text is read-only, and only text is executable",
     image_has_its_permissions},
    {"the kernel's pages are global on every CPU, and no others are",
     kernel_pages_are_global},
    {"an unmapped page lies below every stack", stacks_have_guard_pages},
    {"device registers are mapped uncached", device_pages_are_uncached},
    {"freed frames are poisoned and come back", frames_come_back},
    {"the heap gives pieces that do not overlap, and takes them back",
     heap_works},
    {0},
};
