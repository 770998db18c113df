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

/* Tell the BSP, unless it has given this CPU up or the kernel has panicked
 * meanwhile: from now on this CPU can be stopped by NMI. */
static bool come_online(struct lcpu *lcpu)
{
    uint32_t state = LCPU_STATE_ALIVE;
    /* Release pairs with the acquire in await(). */
    if (!atomic_compare_exchange_strong_explicit(
            &lcpu->state, &state, LCPU_STATE_ONLINE, memory_order_release,
            memory_order_relaxed))
        return false;
    /* Between the state and the look at the panic; pairs with the fence in
     * stop_others(). */
    atomic_thread_fence(memory_order_seq_cst);
    panic_stop_here(NULL);
    return true;
}

_Noreturn void ap_entry(struct lcpu *lcpu)
{
    struct trace_record *record =
        lcpu->record ? phys_to_virt(lcpu->record) : NULL;
    STAGE_AT(record, AP_C);

    /* Before there is an IDT: the exception report finds its CPU by GS. */
    struct percpu *cpu = percpu_of(lcpu->idx);
    trace_adopt_ap(cpu, record);
    percpu_load(cpu);
    STAGE(AP_GS);

    descriptors_load(&cpu->tables, stacks_of(lcpu->idx).ist);
    STAGE(AP_DESCRIPTORS);

    apic_enable();
    STAGE(AP_APIC);

    if (!come_online(lcpu)) {
        STAGE(AP_ABANDONED);
        halt_forever();
    }
    STAGE(AP_ONLINE);
    console_printf("Hello from CPU %u! APIC ID: %u\n", lcpu->idx, lcpu->id);

    rendezvous();
    STAGE(AP_BARRIER);
    scheduler_gate_wait();
    STAGE(AP_SCHEDULER);
    ring3_init();
    smp_listen();
    timer_start();
    STAGE(AP_INTERRUPTS);
    scheduler_entered();
    idle();
}
