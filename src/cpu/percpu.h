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

/* How the CPU came to its end in another CPU's panic (lib/panic.h). */
enum stopped { STOPPED_NOT, STOPPED_BY_NMI, STOPPED_PANICKED };

struct percpu {
    struct percpu *self; /* at GS:0 */
    struct lcpu *lcpu;
    struct trace_record *record;
    struct descriptor_tables tables;
    uint64_t user_rsp;               /* ring 3's, while SYSCALL is served */
    struct ring3_trip *trip;         /* cpu/ring3.h */
    _Atomic bool listens;            /* it takes interrupts (smp/call.h) */
    _Atomic uint64_t tlb_generation; /* its TLB is this young (smp/tlb.h) */
    uint64_t tlb_wanted;             /* what it waits for of the others */
    _Atomic uint64_t ticks;          /* of its timer, since the CPU came up */
    uint64_t next_tick;              /* TSC */
    unsigned panics;                 /* one inside the other */
    _Atomic enum stopped stopped;
    uint64_t stopped_at, stopped_flags; /* RIP and RFLAGS then */
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
