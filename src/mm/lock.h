/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lock of the allocators, held for a few instructions only.  Interrupts
 * must be off (interrupts_save()): a handler that allocates would wait for
 * the code that it interrupted.
 */
#pragma once

#include <stdatomic.h>

#include "cpu/cpu.h"

static inline void mm_lock(atomic_flag *lock)
{
    /* Acquire pairs with the release in mm_unlock(). */
    while (atomic_flag_test_and_set_explicit(lock, memory_order_acquire))
        pause();
}

static inline void mm_unlock(atomic_flag *lock)
{
    atomic_flag_clear_explicit(lock, memory_order_release);
}
