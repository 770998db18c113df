/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/barrier.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "cpu/cpu.h"

static _Atomic unsigned expected; /* 0 until the BSP has counted */
static _Atomic unsigned arrived;
static _Atomic bool gate;
static _Atomic unsigned scheduled; /* APs that are through the gate */

void rendezvous_open(unsigned cpus)
{
    /* Release pairs with the acquire in rendezvous(). */
    atomic_store_explicit(&expected, cpus, memory_order_release);
}

void rendezvous(void)
{
    unsigned target;
    while (!(target = atomic_load_explicit(&expected, memory_order_acquire)))
        pause();
    /* What each CPU did before is seen by all after. */
    atomic_fetch_add_explicit(&arrived, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&arrived, memory_order_acquire) < target)
        pause();
}

void scheduler_gate_open(void)
{
    /* Release pairs with the acquire in scheduler_gate_wait(). */
    atomic_store_explicit(&gate, true, memory_order_release);
}

void scheduler_gate_wait(void)
{
    while (!atomic_load_explicit(&gate, memory_order_acquire))
        pause();
}

void scheduler_entered(void)
{
    /* Release pairs with the acquire in scheduler_cpus(). */
    atomic_fetch_add_explicit(&scheduled, 1, memory_order_release);
}

unsigned scheduler_cpus(void)
{
    return atomic_load_explicit(&scheduled, memory_order_acquire);
}
