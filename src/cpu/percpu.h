/* SPDX-License-Identifier: BSD-2-Clause */
/* What each CPU has to itself, reached through GS base. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "cpu/descriptors.h"
#include "smp/lcpu.h"
#include "trace/trace.h"

struct percpu {
    struct percpu *self; /* at GS:0 */
    struct lcpu *lcpu;
    struct trace_record *record;
    struct descriptor_tables tables;
    _Atomic bool listens;   /* it takes interrupts (smp/call.h) */
    _Atomic uint64_t ticks; /* of its timer, since the CPU came up */
    uint64_t next_tick;     /* TSC */
} __attribute__((aligned(64)));

static inline struct percpu *this_cpu(void)
{
    struct percpu *self;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(self));
    return self;
}

/* The area of the CPU with this index, and GS base of the CPU that calls. */
struct percpu *percpu_of(unsigned idx);
void percpu_load(struct percpu *cpu);
