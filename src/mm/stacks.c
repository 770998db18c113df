/* SPDX-License-Identifier: BSD-2-Clause */
#include "mm/stacks.h"

#include "lib/string.h"
#include "mm/frames.h"
#include "mm/layout.h"
#include "mm/paging.h"

#define IST_FIRST 0x4000
#define IST_STEP  0x2000

/* What an unused stack is full of: a debugger can see how deep it got, and a
 * return address of this value names its origin. */
#define STACK_POISON 0x57

_Static_assert(IST_FIRST + (IST_COUNT - 1) * IST_STEP <=
                   STACK_SLOT - STACK_SIZE - PAGE_SIZE,
               "a guard page must fit below the stack");

void stack_map(uint64_t top, size_t size)
{
    for (uint64_t at = top - size; at < top; at += PAGE_SIZE)
        paging_map(at, frames_allocate(1), PAGE_WRITE | PAGE_NX);
    memset((void *)(top - size), STACK_POISON, size);
}

struct stacks stacks_of(unsigned idx)
{
    uint64_t slot = STACKS_BASE + (uint64_t)idx * STACK_SLOT;
    struct stacks stacks = {.top = slot + STACK_SLOT};
    for (unsigned i = 0; i < IST_COUNT - 1; i++)
        stacks.ist[i] = slot + IST_FIRST + i * IST_STEP + PAGE_SIZE;
    return stacks;
}

struct stacks stacks_map(unsigned idx)
{
    struct stacks stacks = stacks_of(idx);
    stack_map(stacks.top, STACK_SIZE);
    for (unsigned i = 0; i < IST_COUNT - 1; i++)
        stack_map(stacks.ist[i], PAGE_SIZE);
    return stacks;
}
