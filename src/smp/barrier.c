/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/barrier.h"

#include "cpu/cpu.h"
#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/panic.h"
#include "time/tsc.h"

static struct barrier meeting = {.name = "rendezvous"};
static _Atomic bool gate;

void barrier_init(struct barrier *barrier, const char *name, unsigned cpus)
{
    barrier->name = name;
    atomic_store_explicit(&barrier->missing, cpus, memory_order_relaxed);
    /* Release pairs with the acquire in rendezvous(). */
    atomic_store_explicit(&barrier->expected, cpus, memory_order_release);
}

static _Atomic uint64_t *word_of(struct barrier *barrier, uint32_t cpu)
{
    return &barrier->arrived[cpu / 64];
}

static _Noreturn void report_missing(struct barrier *barrier)
{
    panic_begin();
    console_printf("barrier \"%s\": %u of %u CPUs are missing after %u s\n",
                   barrier->name, barrier->missing, barrier->expected,
                   MEET_DEADLINE_US / 1000000);
    for (uint32_t cpu = 0; cpu < lcpu_count; cpu++)
        console_printf("    CPU %u %s\n", cpu,
                       *word_of(barrier, cpu) >> cpu % 64 & 1 ? "arrived"
                                                              : "is missing");
    panic_end("a barrier does not open");
}

bool barrier_wait(struct barrier *barrier)
{
    uint32_t cpu = this_cpu()->lcpu->idx;
    /* It can't turn before this CPU has arrived. */
    bool sense = atomic_load_explicit(&barrier->sense, memory_order_relaxed);
    atomic_fetch_or_explicit(word_of(barrier, cpu), 1ull << cpu % 64,
                             memory_order_relaxed);
    /* Release: the last one sees what we did; acquire: it is the last one. */
    if (atomic_fetch_sub_explicit(&barrier->missing, 1, memory_order_acq_rel) ==
        1) {
        for (unsigned i = 0; i < sizeof barrier->arrived / 8; i++)
            atomic_store_explicit(&barrier->arrived[i], 0,
                                  memory_order_relaxed);
        atomic_store_explicit(&barrier->missing, barrier->expected,
                              memory_order_relaxed);
        /* Release pairs with the acquire below: all see what all did. */
        atomic_store_explicit(&barrier->sense, !sense, memory_order_release);
        return true;
    }
    uint64_t deadline = deadline_in(MEET_DEADLINE_US);
    while (atomic_load_explicit(&barrier->sense, memory_order_acquire) ==
           sense) {
        pause();
        if (deadline_passed(deadline))
            report_missing(barrier);
    }
    return false;
}

void rendezvous_open(unsigned cpus)
{
    barrier_init(&meeting, meeting.name, cpus);
}

void rendezvous(void)
{
    uint64_t deadline = deadline_in(MEET_DEADLINE_US);
    while (!atomic_load_explicit(&meeting.expected, memory_order_acquire)) {
        pause();
        if (deadline_passed(deadline))
            panic("the BSP does not say how many CPUs meet");
    }
    barrier_wait(&meeting);
}

void scheduler_gate_open(void)
{
    /* Release pairs with the acquire in scheduler_gate_wait(). */
    atomic_store_explicit(&gate, true, memory_order_release);
}

void scheduler_gate_wait(void)
{
    uint64_t deadline = deadline_in(MEET_DEADLINE_US);
    while (!atomic_load_explicit(&gate, memory_order_acquire)) {
        pause();
        if (deadline_passed(deadline))
            panic("the BSP does not open the scheduler gate");
    }
}
