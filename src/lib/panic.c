/* SPDX-License-Identifier: BSD-2-Clause */
#include "lib/panic.h"

#include <stdatomic.h>
#include <stddef.h>

#include "apic/apic.h"
#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/exit.h"
#include "lib/printf.h"
#include "time/tsc.h"
#include "trace/stage.h"

/* How long the others have to take the NMI before the report is printed. */
#define PANIC_STOP_US 2000

static _Atomic(struct percpu *) reporter;

bool panic_in_progress(void)
{
    return atomic_load_explicit(&reporter, memory_order_acquire) != NULL;
}

/*
 * An NMI to each CPU that can take one.  Not to all but self: an AP that is
 * still in the trampoline has no IDT, and the NMI would be its triple fault
 * and the report's end.  Such an AP stops by itself when it comes online.
 */
static void stop_others(void)
{
    /* Between the store to `reporter` and the reads of the states; pairs with
     * the fence in come_online(). */
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < lcpu_count; i++) {
        uint32_t state =
            atomic_load_explicit(&lcpus[i].state, memory_order_relaxed);
        if ((state == LCPU_STATE_ONLINE || state == LCPU_STATE_BSP) &&
            &lcpus[i] != this_cpu()->lcpu)
            apic_send(lcpus[i].id, ICR_NMI | ICR_ASSERT);
    }
}

void panic_begin(void)
{
    interrupts_off();
    struct percpu *first = NULL;
    if (!atomic_compare_exchange_strong(&reporter, &first, this_cpu())) {
        if (first != this_cpu())
            halt_forever(); /* another CPU was first: its NMI comes */
        return;             /* a fault while reporting: go on printing */
    }
    STAGE(PANIC);
    if (apic_ready()) {
        stop_others();
        udelay(PANIC_STOP_US);
    }
    console_seize();
}

void panic_end(const char *reason)
{
    console_printf("panic: %s\n", reason);
    machine_exit(EXIT_PANIC);
}

void panic(const char *format, ...)
{
    char reason[160];
    va_list arguments;
    va_start(arguments, format);
    format_text(reason, sizeof reason, format, arguments);
    va_end(arguments);
    panic_begin();
    panic_end(reason);
}
