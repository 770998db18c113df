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

/* How long the report waits for CPUs to stop; each that does starts it anew.
 * An NMI takes microseconds, a virtual CPU's turn on the host much more. */
#define PANIC_STOP_US 1000000

static _Atomic(struct percpu *) reporter;

/* A CPU that can take an NMI: an AP that is still in the trampoline has no
 * IDT, and the NMI would be its triple fault and the report's end.  Such an AP
 * stops by itself when it comes online. */
static bool can_be_stopped(const struct lcpu *lcpu)
{
    uint32_t state = atomic_load_explicit(&lcpu->state, memory_order_relaxed);
    return state >= LCPU_STATE_ONLINE && state != LCPU_STATE_ABANDONED &&
           lcpu != this_cpu()->lcpu;
}

static bool has_stopped(unsigned cpu)
{
    /* Acquire pairs with the release in stop(). */
    return atomic_load_explicit(&percpu_of(cpu)->stopped,
                                memory_order_acquire) != STOPPED_NOT;
}

static void stop_others(void)
{
    /* Between the store to `reporter` and the reads of the states; pairs with
     * the fence in come_online(). */
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < lcpu_count; i++)
        if (can_be_stopped(&lcpus[i]))
            apic_send(lcpus[i].id, ICR_NMI | ICR_ASSERT);
    for (unsigned i = 0; i < lcpu_count; i++) {
        uint64_t deadline = deadline_in(PANIC_STOP_US);
        while (can_be_stopped(&lcpus[i]) && !has_stopped(i) &&
               !deadline_passed(deadline))
            pause();
    }
}

/* Light the last lamp, and only then count as stopped: from then on this CPU
 * prints nothing. */
static _Noreturn void stop(enum stopped how)
{
    STAGE(STOPPED);
    /* Release pairs with the acquire in has_stopped(). */
    atomic_store_explicit(&this_cpu()->stopped, how, memory_order_release);
    halt_forever();
}

void panic_stop_here(const struct trap_frame *frame)
{
    if (!atomic_load_explicit(&reporter, memory_order_acquire))
        return;
    if (frame) {
        this_cpu()->stopped_at = frame->rip;
        this_cpu()->stopped_flags = frame->rflags;
    }
    stop(STOPPED_BY_NMI);
}

/* What is worth a line about the others: all is well with a CPU that was
 * stopped where it takes interrupts. */
static void report_others(void)
{
    for (unsigned i = 0; i < lcpu_count; i++) {
        const struct percpu *cpu = percpu_of(i);
        if (!can_be_stopped(&lcpus[i]))
            continue;
        if (!has_stopped(i))
            console_printf("    CPU %u (APIC ID %u) did not stop\n", i,
                           lcpus[i].id);
        else if (cpu->stopped == STOPPED_PANICKED)
            console_printf("    CPU %u (APIC ID %u) panicked too\n", i,
                           lcpus[i].id);
        else if (cpu->stopped_at && !(cpu->stopped_flags & RFLAGS_IF))
            console_printf("    CPU %u (APIC ID %u) was at %016lx with "
                           "interrupts off\n",
                           i, lcpus[i].id, cpu->stopped_at);
    }
}

/* Only the first CPU reports. */
static void become_reporter(void)
{
    struct percpu *first = NULL;
    if (!atomic_compare_exchange_strong(&reporter, &first, this_cpu()) &&
        first != this_cpu())
        stop(STOPPED_PANICKED);
}

/* Nothing that could fault any more, and no lock. */
static _Noreturn void last_words(void)
{
    for (const char *s = "\npanic inside panic: and its line is lost\n"; *s;
         s++)
        trace_byte(*s);
    machine_end(EXIT_PANIC);
}

void panic_enter(const char *what)
{
    interrupts_off();
    unsigned outer = this_cpu()->panics++;
    if (!outer)
        return;
    if (outer == 2)
        last_words();
    if (outer > 2)
        machine_end(EXIT_PANIC);
    become_reporter();
    /* The line first: it needs less than the lamp does. */
    console_printf("panic inside panic: %s\n", what);
    STAGE(PANIC_NESTED);
    machine_exit(EXIT_PANIC);
}

void panic_begin(void)
{
    become_reporter();
    if (apic_ready()) {
        apic_enable(); /* this may be an AP that has not come so far */
        stop_others();
    }
    STAGE(PANIC);
}

void panic_end(const char *reason)
{
    report_others();
    console_printf("panic: %s\n", reason);
    machine_exit(EXIT_PANIC);
}

void panic(const char *format, ...)
{
    char reason[240];
    va_list arguments;
    va_start(arguments, format);
    format_text(reason, sizeof reason, format, arguments);
    va_end(arguments);
    panic_enter(reason);
    panic_begin();
    panic_end(reason);
}
