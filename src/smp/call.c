/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each CPU has one call of its own, and a set of the CPUs that call it: two
 * sets of bits, so that nothing is allocated and nothing queues.
 */
#include "smp/call.h"

#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/panic.h"
#include "smp/cpuset.h"
#include "smp/ipi.h"
#include "smp/tlb.h"

static struct call {
    void (*fn)(void *arg);
    void *arg;
    bool busy;             /* its CPU waits for answers */
    struct cpuset waiting; /* for these */
} __attribute__((aligned(64))) calls[NR_CPUS];

/* Who has called the CPU with this index. */
static struct cpuset callers[NR_CPUS];

void smp_listen(void)
{
    struct percpu *cpu = this_cpu();
    atomic_store_explicit(&cpu->listens, true, memory_order_relaxed);
    /* Between the store and the TLB's flush; pairs with the fence in
     * tlb_shootdown(). */
    atomic_thread_fence(memory_order_seq_cst);
    tlb_join();
}

bool smp_listens(unsigned cpu)
{
    return cpu < lcpu_count &&
           atomic_load_explicit(&percpu_of(cpu)->listens, memory_order_acquire);
}

void smp_serve(void)
{
    unsigned me = this_cpu()->lcpu->idx;
    unsigned caller;
    while ((caller = cpuset_take(&callers[me])) < NR_CPUS) {
        struct call *call = &calls[caller];
        call->fn(call->arg);
        cpuset_remove(&call->waiting, me);
        ipi_answer_given();
    }
    tlb_catch_up();
}

static bool answered(unsigned cpu)
{
    return !cpuset_has(&calls[this_cpu()->lcpu->idx].waiting, cpu);
}

/* A call to those in `to`, of whom none is the CPU that calls. */
static void call_others(const struct cpuset *to, void (*fn)(void *), void *arg)
{
    unsigned me = this_cpu()->lcpu->idx;
    struct call *call = &calls[me];
    if (call->busy)
        panic("CPU %u calls another CPU from a called function", me);
    call->busy = true;
    call->fn = fn;
    call->arg = arg;
    cpuset_copy(&call->waiting, to);
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        if (cpuset_has(to, cpu)) {
            /* Publishes the call: pairs with cpuset_take(). */
            cpuset_add(&callers[cpu], me);
            ipi_send(cpu, VECTOR_CALL);
        }
    ipi_await("a call", to, answered);
    call->busy = false;
}

bool smp_call(unsigned cpu, void (*fn)(void *), void *arg)
{
    if (!smp_listens(cpu)) {
        console_printf("CPU %u is not called: %s\n", cpu,
                       cpu < lcpu_count ? "it is not online"
                                        : "there is no such CPU");
        return false;
    }
    uint64_t flags = interrupts_save();
    if (cpu == this_cpu()->lcpu->idx) {
        fn(arg);
    } else {
        struct cpuset to = {0};
        cpuset_add(&to, cpu);
        call_others(&to, fn, arg);
    }
    interrupts_restore(flags);
    return true;
}

void smp_call_all(void (*fn)(void *), void *arg)
{
    uint64_t flags = interrupts_save();
    struct cpuset to;
    ipi_listeners(&to);
    call_others(&to, fn, arg);
    fn(arg);
    interrupts_restore(flags);
}

unsigned smp_call_each(void (*fn)(void *), void *arg)
{
    unsigned count = 0;
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        if (smp_listens(cpu))
            count += smp_call(cpu, fn, arg);
    return count;
}

void smp_wake(unsigned cpu)
{
    if (smp_listens(cpu))
        ipi_send(cpu, VECTOR_RESCHEDULE);
    else
        console_printf("CPU %u is not woken: it is not online\n", cpu);
}
