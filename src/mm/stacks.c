/* SPDX-License-Identifier: BSD-2-Clause */
#include "mm/stacks.h"

#include "lib/printf.h"
#include "lib/string.h"
#include "mm/frames.h"
#include "mm/layout.h"
#include "mm/paging.h"
#include "sched/thread.h"

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

static bool is_below(uint64_t address, uint64_t bottom)
{
    return address < bottom && address >= bottom - PAGE_SIZE;
}

bool stack_above_guard(uint64_t address, char *name, size_t size)
{
    extern char boot_stack_guard[];
    if (is_below(address, (uint64_t)boot_stack_guard + PAGE_SIZE)) {
        format_string(name, size, "the boot stack");
        return true;
    }
    if (address < STACKS_BASE || address >= DEVICE_BASE)
        return false;
    if (address >= THREADS_BASE) {
        const struct thread *thread =
            thread_at((unsigned)((address - THREADS_BASE) / THREAD_SLOT));
        format_string(name, size, "the stack of thread %u \"%s\"",
                      thread ? thread->id : 0, thread ? thread->name : "none");
        return is_below(address % THREAD_SLOT, THREAD_SLOT - STACK_SIZE);
    }
    unsigned idx = (unsigned)((address - STACKS_BASE) / STACK_SLOT);
    struct stacks stacks = stacks_of(idx);
    if (is_below(address, stacks.top - STACK_SIZE)) {
        format_string(name, size, "CPU %u's stack", idx);
        return true;
    }
    for (unsigned i = 0; i < IST_COUNT - 1; i++)
        if (is_below(address, stacks.ist[i] - PAGE_SIZE)) {
            format_string(name, size, "CPU %u's IST stack %u", idx, i + 1);
            return true;
        }
    return false;
}
