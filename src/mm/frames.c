/* SPDX-License-Identifier: BSD-2-Clause */
#include "mm/frames.h"

#include "lib/exit.h"
#include "lib/string.h"
#include "mm/layout.h"
#include "mm/paging.h"

extern char kernel_end[];

static const struct bootinfo *map;
static uint64_t next;

void frames_init(const struct bootinfo *info)
{
    map = info;
    next = (uint64_t)kernel_end - KERNEL_BASE;
}

uint64_t frames_allocate(size_t count)
{
    uint64_t size = count * PAGE_SIZE;
    while (next + size <= BOOT_MAP_SIZE) {
        if (bootinfo_is_ram(map, next, next + size)) {
            uint64_t frame = next;
            next += size;
            memset(paging_window(frame), 0, size);
            return frame;
        }
        next += PAGE_SIZE;
    }
    boot_error(EXIT_NO_MEMORY,
               "no %zu KiB of free memory below %u MiB: give the machine more "
               "memory (qemu -m 128)",
               (size_t)size / 1024, BOOT_MAP_SIZE >> 20);
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
