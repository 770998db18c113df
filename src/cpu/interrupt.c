/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/interrupt.h"

#include "apic/apic.h"
#include "cpu/exception.h"
#include "cpu/percpu.h"
#include "cpu/ring3.h"
#include "sched/sched.h"
#include "smp/call.h"
#include "time/timer.h"

static void reschedule(struct trap_frame *frame)
{
    (void)frame;
    sched_ipi();
}

static void serve(struct trap_frame *frame)
{
    (void)frame;
    smp_serve();
}

/* Whatever is not here is an exception, or an interrupt that nobody expects:
 * exception_handle() names it. */
static void (*const handlers[VECTORS])(struct trap_frame *) = {
    [VECTOR_TIMER] = timer_interrupt,
    [VECTOR_RESCHEDULE] = reschedule,
    [VECTOR_CALL] = serve,
    [VECTOR_TLB] = serve,
};

/*
 * NMI, #DF and #MC come at any instruction: between SYSCALL and its SWAPGS
 * too, where the stub takes ring 0 for the kernel with the kernel's GS base.
 * And an exception may come because GS base is wrong.  The report needs it;
 * nothing that this is done for returns to what it interrupted.
 */
static bool mend_gs(uint64_t vector)
{
    if (vector >= VECTOR_EXCEPTIONS || rdmsr(MSR_GS_BASE) >> 63)
        return false;
    __asm__ volatile("swapgs" : : : "memory");
    return true;
}

void interrupt_handle(struct trap_frame *frame)
{
    bool gs_was_wrong = mend_gs(frame->vector);
    if (frame->vector == VECTOR_SPURIOUS)
        return; /* no EOI [SDM 3A "Spurious Interrupt"] */
    if (frame->vector == VECTOR_RING3)
        ring3_interrupt(frame); /* an instruction: no EOI */
    if (!handlers[frame->vector]) {
        exception_handle(frame, gs_was_wrong);
        return;
    }
    /* First the EOI: a handler may switch to another thread and come back
     * much later.  Interrupts are off until then. */
    apic_eoi();
    this_cpu()->in_handler = true;
    handlers[frame->vector](frame);
    this_cpu()->in_handler = false; /* perhaps of another CPU */
}
