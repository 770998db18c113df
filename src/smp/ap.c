/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An AP in C, from the trampoline's jump to the idle loop.
 *
 * In: interrupts off, the kernel's page tables, the AP's own stack, the
 * trampoline's GDT, no IDT, GS base 0.
 */
#include "apic/apic.h"
#include "cpu/percpu.h"
#include "cpu/ring3.h"
#include "lib/console.h"
#include "lib/panic.h"
#include "mm/paging.h"
#include "mm/stacks.h"
#include "sched/idle.h"
#include "smp/barrier.h"
#include "smp/call.h"
#include "smp/lcpu.h"
#include "time/timer.h"
#include "trace/stage.h"

static _Noreturn void park(void)
{
    STAGE(AP_ABANDONED);
    this_cpu()->listens = false;
    halt_forever();
}

/* Tell the BSP that this CPU has come one step further, unless it has given
 * this CPU up. */
static void become(enum lcpu_state next)
{
    uint32_t state = next - 1;
    /* Release pairs with the acquire in state_of(). */
    if (!atomic_compare_exchange_strong_explicit(
            &this_cpu()->lcpu->state, &state, next, memory_order_release,
            memory_order_relaxed))
        park();
}

/* From now on this CPU can be stopped by NMI; the kernel may have panicked
 * meanwhile. */
static void come_online(void)
{
    become(LCPU_STATE_ONLINE);
    /* Between the state and the look at the panic; pairs with the fence in
     * stop_others(). */
    atomic_thread_fence(memory_order_seq_cst);
    panic_stop_here(NULL);
}

_Noreturn void ap_entry(struct lcpu *lcpu)
{
    struct trace_record *record = TRACE ? phys_to_virt(lcpu->record) : NULL;
    STAGE_AT(record, AP_C);

    /* Before there is an IDT: the exception report finds its CPU by GS. */
    struct percpu *cpu = percpu_of(lcpu->idx);
    cpu->record = record;
    percpu_load(cpu);
    STAGE_AT(record, AP_GS);

    descriptors_load(&cpu->tables, stacks_of(lcpu->idx).ist);
    STAGE_AT(record, AP_DESCRIPTORS);

    apic_enable();
    STAGE_AT(record, AP_APIC);

    come_online();
    STAGE_AT(record, AP_ONLINE);
    console_printf("Hello from CPU %u! APIC ID: %u\n", lcpu->idx, lcpu->id);

    become(LCPU_STATE_MEETING);
    rendezvous();
    STAGE_AT(record, AP_BARRIER);
    scheduler_gate_wait();
    STAGE_AT(record, AP_SCHEDULER);
    ring3_init();
    smp_listen();
    timer_start();
    STAGE_AT(record, AP_INTERRUPTS);
    become(LCPU_STATE_WORKING);
    idle();
}
