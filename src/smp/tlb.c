/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/tlb.h"

#include "cpu/percpu.h"
#include "mm/layout.h"
#include "smp/call.h"
#include "smp/ipi.h"

static _Atomic uint64_t generation; /* of the page tables */

/* Every translation, the global ones too, which a load of CR3 leaves
 * [SDM 3A "Operations that Invalidate TLBs"]. */
static void forget_all(void)
{
    uint64_t cr4 = read_cr4();
    if (cr4 & CR4_PGE) {
        write_cr4(cr4 & ~(uint64_t)CR4_PGE);
        write_cr4(cr4);
    } else {
        write_cr3(read_cr3());
    }
}

static void become_young(void)
{
    /* Acquire pairs with the release in tlb_shootdown(): who sees the
     * generation sees the page tables that it counts. */
    uint64_t now = atomic_load_explicit(&generation, memory_order_acquire);
    forget_all();
    /* Release pairs with the acquire in has_forgotten(). */
    atomic_store_explicit(&this_cpu()->tlb_generation, now,
                          memory_order_release);
}

void tlb_join(void)
{
    if (cpuid(CPUID_FEATURES, 0).edx & CPUID_1_EDX_PGE)
        write_cr4(read_cr4() | CR4_PGE);
    become_young();
}

void tlb_catch_up(void)
{
    if (atomic_load_explicit(&this_cpu()->tlb_generation,
                             memory_order_relaxed) !=
        atomic_load_explicit(&generation, memory_order_relaxed)) {
        become_young();
        ipi_answer_given();
    }
}

static bool has_forgotten(unsigned cpu)
{
    return atomic_load_explicit(&percpu_of(cpu)->tlb_generation,
                                memory_order_acquire) >= this_cpu()->tlb_wanted;
}

void tlb_shootdown(uint64_t start, uint64_t end)
{
    for (uint64_t at = start; at < end; at += PAGE_SIZE)
        invlpg((void *)at);
    uint64_t flags = interrupts_save();
    struct percpu *me = this_cpu();
    uint64_t outer = me->tlb_wanted; /* of the wait that this one serves */
    me->tlb_wanted =
        atomic_fetch_add_explicit(&generation, 1, memory_order_acq_rel) + 1;
    /* Between the change and the look at who listens; pairs with the fence
     * in smp_listen(). */
    atomic_thread_fence(memory_order_seq_cst);
    struct cpuset others;
    ipi_listeners(&others);
    /* Whose TLB is that young already needs no interrupt. */
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        if (cpuset_has(&others, cpu) && !has_forgotten(cpu))
            ipi_send(cpu, VECTOR_TLB);
    ipi_await("a TLB shootdown", &others, has_forgotten);
    me->tlb_wanted = outer;
    interrupts_restore(flags);
}
