/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/interrupt.h"

#include "apic/apic.h"
#include "cpu/exception.h"
#include "cpu/percpu.h"
#include "sched/sched.h"
#include "time/timer.h"

static void reschedule(struct trap_frame *frame)
{
    (void)frame;
    sched_ipi();
}

/* Whatever is not here is an exception, or an interrupt that nobody expects:
 * exception_handle() names it. */
static void (*const handlers[VECTORS])(struct trap_frame *) = {
    [VECTOR_TIMER] = timer_interrupt,
    [VECTOR_RESCHEDULE] = reschedule,
};

void interrupt_handle(struct trap_frame *frame)
{
    if (frame->vector == VECTOR_SPURIOUS)
        return; /* no EOI [SDM 3A "Spurious Interrupt"] */
    if (!handlers[frame->vector]) {
        exception_handle(frame);
        return;
    }
    /* First the EOI: a handler may switch to another thread and come back
     * much later.  Interrupts are off until then. */
    apic_eoi();
    this_cpu()->in_handler = true;
    handlers[frame->vector](frame);
    this_cpu()->in_handler = false; /* perhaps of another CPU */
}
