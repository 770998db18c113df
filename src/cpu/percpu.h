/* SPDX-License-Identifier: BSD-2-Clause */
/* What each CPU has to itself, reached through GS base. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "cpu/descriptors.h"
#include "sched/thread.h"
#include "smp/lcpu.h"
#include "trace/trace.h"

/* How the CPU came to its end in another CPU's panic (lib/panic.h). */
enum stopped { STOPPED_NOT, STOPPED_BY_NMI, STOPPED_PANICKED };

struct percpu {
    struct percpu *self; /* at GS:0 */
    struct lcpu *lcpu;
    struct trace_record *record;
    /* The next entry of the record and its end, where STAGE() need write
     * nothing else (trace/stage.h); else both NULL. */
    struct trace_entry *entry, *entries_end;
    struct descriptor_tables tables;
    bool in_handler;                 /* of an interrupt */
    unsigned preemption_offs;        /* while not 0, the thread keeps the CPU */
    struct thread *thread;           /* that runs */
    struct thread outside;           /* the code that is in none */
    struct run_queue *queue;         /* src/sched/sched.c */
    uint64_t work;                   /* done by src/sched/workload.c */
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

/* One instruction each: a thread that is moved to another CPU between reading
 * this_cpu() and what follows would have the wrong one's. */
#define PERCPU_ADD(instruction, field)                                         \
    __asm__ volatile(instruction " %%gs:%c0"                                   \
                     :                                                         \
                     : "i"(offsetof(struct percpu, field))                     \
                     : "memory", "cc")

static inline void preemption_off(void)
{
    PERCPU_ADD("incl", preemption_offs);
}

static inline void preemption_on(void)
{
    PERCPU_ADD("decl", preemption_offs);
}

static inline void percpu_count_work(void)
{
    PERCPU_ADD("incq", work);
}

static inline struct thread *percpu_thread(void)
{
    struct thread *thread;
    __asm__ volatile("mov %%gs:%c1, %0"
                     : "=r"(thread)
                     : "i"(offsetof(struct percpu, thread)));
    return thread;
}

/* The area of the CPU with this index, and GS base of the CPU that calls. */
struct percpu *percpu_of(unsigned idx);
void percpu_load(struct percpu *cpu);
