/* SPDX-License-Identifier: BSD-2-Clause */
#include "mm/frames.h"

#include "lib/exit.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/buddy.h"
#include "mm/layout.h"
#include "mm/paging.h"
#include "smp/spinlock.h"

extern char kernel_end[];

/* What is above stays unused: the states would take too much of the memory
 * that the boot page tables map. */
#define FRAMES_END (64ull << 30)

static const struct bootinfo *map;
static struct buddy buddy;
static uint64_t states_start; /* the buddy's states lie there */
static struct spinlock lock = SPINLOCK("frames");

static _Noreturn void no_memory(uint64_t size)
{
    boot_error(EXIT_NO_MEMORY,
               "no %zu KiB of free memory: give the machine more memory "
               "(qemu -m 128)",
               (size_t)(size + 1023) / 1024);
}

/* The part of [*start, *end) inside [from, to); false if there is none. */
static bool clip(uint64_t *start, uint64_t *end, uint64_t from, uint64_t to)
{
    *start = *start > from ? *start : from;
    *end = *end < to ? *end : to;
    return *start < *end;
}

static void add_between(uint64_t from, uint64_t to)
{
    for (size_t i = map->ram_count; i-- > 0;) {
        uint64_t start = map->ram[i].start, end = map->ram[i].end;
        if (clip(&start, &end, from, to))
            buddy_add(&buddy, start, end);
    }
}

/* Room for the states at the end of the highest RAM that is mapped and large
 * enough: the frames beside the kernel stay free. */
static uint64_t place_states(uint64_t from, uint64_t size)
{
    for (size_t i = map->ram_count; i-- > 0;) {
        uint64_t start = map->ram[i].start, end = map->ram[i].end;
        if (clip(&start, &end, from, BOOT_MAP_SIZE) && end - start >= size)
            return (end - size) & ~(uint64_t)(PAGE_SIZE - 1);
    }
    no_memory(size);
}

void frames_init(const struct bootinfo *info)
{
    map = info;
    uint64_t kernel = (uint64_t)kernel_end - KERNEL_BASE, top = 0;
    for (size_t i = 0; i < map->ram_count; i++)
        top = map->ram[i].end;
    buddy.limit = top < FRAMES_END ? top : FRAMES_END;
    uint64_t size = buddy.limit / PAGE_SIZE + 1;
    states_start = place_states(kernel, size);
    buddy.states = paging_window(states_start);
    memset(buddy.states, 0, size);
    buddy.at = paging_window;
    add_between(states_start + size, BOOT_MAP_SIZE);
    add_between(kernel, states_start);
}

void frames_add_rest(void)
{
    buddy.states = paging_window(states_start);
    add_between(BOOT_MAP_SIZE, buddy.limit);
}

uint64_t frames_allocate(size_t count)
{
    uint64_t flags = spin_lock_irq(&lock);
    uint64_t frame = buddy_allocate(&buddy, buddy_order(count));
    spin_unlock_irq(&lock, flags);
    if (!frame)
        no_memory(count * PAGE_SIZE);
    if (buddy.damaged)
        panic("frame %#lx was written after it was freed, at %#lx", frame,
              buddy.damaged);
    memset(paging_window(frame), 0, count * PAGE_SIZE);
    return frame;
}

void frames_free(uint64_t frame, size_t count)
{
    uint64_t flags = spin_lock_irq(&lock);
    enum buddy_error error = buddy_free(&buddy, frame, buddy_order(count));
    spin_unlock_irq(&lock, flags);
    if (error != BUDDY_OK)
        panic("can't free %zu frames at %#lx: %s", count, frame,
              buddy_error_text(error));
}

uint64_t frames_available(void)
{
    return buddy.free_frames;
}

uint64_t low_pages_find(const struct bootinfo *info, uint64_t from,
                        size_t count, uint64_t avoid)
{
    uint64_t size = count * PAGE_SIZE;
    for (uint64_t at = from; at + size <= LOW_MEMORY_END; at += PAGE_SIZE) {
        if (at < avoid + PAGE_SIZE && avoid < at + size)
            continue;
        if (bootinfo_is_ram(info, at, at + size))
            return at;
    }
    return 0;
}
