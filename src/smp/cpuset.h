/* SPDX-License-Identifier: BSD-2-Clause */
/* A set of CPUs by index, one bit each, that several CPUs change at once. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "smp/lcpu.h"

#define CPUSET_WORDS ((NR_CPUS + 63) / 64)

struct cpuset {
    _Atomic uint64_t words[CPUSET_WORDS];
};

/* Release pairs with the acquire in cpuset_take(). */
static inline void cpuset_add(struct cpuset *set, unsigned cpu)
{
    atomic_fetch_or_explicit(&set->words[cpu / 64], 1ull << cpu % 64,
                             memory_order_release);
}

/* Release pairs with the acquire in cpuset_has(). */
static inline void cpuset_remove(struct cpuset *set, unsigned cpu)
{
    atomic_fetch_and_explicit(&set->words[cpu / 64], ~(1ull << cpu % 64),
                              memory_order_release);
}

static inline bool cpuset_has(const struct cpuset *set, unsigned cpu)
{
    return atomic_load_explicit(&set->words[cpu / 64], memory_order_acquire) >>
               cpu % 64 &
           1;
}

/* Take one CPU out of the set; NR_CPUS or more if it is empty. */
static inline unsigned cpuset_take(struct cpuset *set)
{
    for (unsigned word = 0; word < CPUSET_WORDS; word++) {
        uint64_t bits =
            atomic_load_explicit(&set->words[word], memory_order_relaxed);
        if (!bits)
            continue;
        unsigned bit = (unsigned)__builtin_ctzll(bits);
        atomic_fetch_and_explicit(&set->words[word], ~(1ull << bit),
                                  memory_order_acquire);
        return word * 64 + bit;
    }
    return NR_CPUS;
}

/* Nobody else uses `to` yet. */
static inline void cpuset_copy(struct cpuset *to, const struct cpuset *from)
{
    for (unsigned word = 0; word < CPUSET_WORDS; word++)
        atomic_store_explicit(
            &to->words[word],
            atomic_load_explicit(&from->words[word], memory_order_relaxed),
            memory_order_relaxed);
}
