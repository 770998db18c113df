/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames of physical memory, from the buddy system over the loader's map. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "boot/bootinfo.h"

/* Frames come from `info`'s RAM above the kernel image: at first what the
 * boot page tables map, the rest with frames_add_rest().  `info` is kept. */
void frames_init(const struct bootinfo *info);
/* When the direct map is live. */
void frames_add_rest(void);

/* The physical address of `count` consecutive zeroed frames.  Ends the
 * machine with a message when there are none. */
uint64_t frames_allocate(size_t count);

/* Poison them and take them back; `count` as they were allocated.  Panics if
 * they are free or were never allocated. */
void frames_free(uint64_t frame, size_t count);

/* How many frames are free. */
uint64_t frames_available(void);

/*
 * `count` free pages below 640 KiB that do not touch [avoid, avoid +
 * PAGE_SIZE), lowest first from `from`; 0 if there are none.  The pages are
 * not marked as taken: the caller plans low memory once.
 */
uint64_t low_pages_find(const struct bootinfo *info, uint64_t from,
                        size_t count, uint64_t avoid);
