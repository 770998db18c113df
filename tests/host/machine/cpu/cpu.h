/* SPDX-License-Identifier: BSD-2-Clause */
/* In place of src/cpu/cpu.h: a CPU that is a thread of the host. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RFLAGS_IF 0x200u

extern _Thread_local uint64_t host_rflags;

static inline uint64_t read_rflags(void)
{
    return host_rflags;
}

static inline uint64_t interrupts_save(void)
{
    uint64_t flags = host_rflags;
    host_rflags &= ~(uint64_t)RFLAGS_IF;
    return flags;
}

static inline void interrupts_restore(uint64_t flags)
{
    host_rflags = flags;
}

/* Lets the others run: there are more threads than CPUs.  Ends this one when
 * another panicked, as the NMI does. */
void pause(void);

static inline uint64_t rdtsc(void)
{
    return __builtin_ia32_rdtsc();
}
