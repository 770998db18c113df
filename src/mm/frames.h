/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames of physical memory: handed out in order, zeroed, never taken back. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "boot/bootinfo.h"

/* Frames come from `info`'s RAM above the kernel image.  `info` is kept. */
void frames_init(const struct bootinfo *info);

/* The physical address of `count` consecutive zeroed frames below
 * BOOT_MAP_SIZE.  Ends the machine with a message when there are none. */
uint64_t frames_allocate(size_t count);

/*
 * `count` free pages below 640 KiB that do not touch [avoid, avoid +
 * PAGE_SIZE), lowest first from `from`; 0 if there are none.  The pages are
 * not marked as taken: the caller plans low memory once.
 */
uint64_t low_pages_find(const struct bootinfo *info, uint64_t from,
                        size_t count, uint64_t avoid);
