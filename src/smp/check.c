/* SPDX-License-Identifier: BSD-2-Clause */
/* What the interrupts between CPUs claim of themselves, on all CPUs. */
#include "cpu/percpu.h"
#include "cpu/probe.h"
#include "mm/frames.h"
#include "mm/paging.h"
#include "selftest.h"
#include "smp/call.h"

static unsigned listeners(void)
{
    unsigned count = 0;
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        count += smp_listens(cpu);
    return count;
}

/* ------------------------------------------------------------------ calls */

static void note_index(void *seen)
{
    *(unsigned *)seen = this_cpu()->lcpu->idx;
}

static bool each_cpu_answers(void)
{
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++) {
        unsigned seen = NR_CPUS;
        if (smp_listens(cpu) &&
            (!smp_call(cpu, note_index, &seen) || seen != cpu))
            return false;
    }
    return true;
}

static void count_up(void *counter)
{
    atomic_fetch_add_explicit((_Atomic unsigned *)counter, 1,
                              memory_order_relaxed);
}

/* A CPU that waits for this call's end is called back, and so is one that is
 * busy with the same: a few at once, for with more virtual CPUs than the host
 * has those that wait take the time of those that answer. */
enum { AT_ONCE = 8 };

static void call_on(void *counter)
{
    unsigned me = this_cpu()->lcpu->idx;
    if (me == 0 || me >= AT_ONCE)
        return;
    for (unsigned cpu = 0; cpu < AT_ONCE && cpu < lcpu_count; cpu++)
        if (cpu != me && smp_listens(cpu))
            smp_call(cpu, count_up, counter);
}

static bool cpus_call_each_other(void)
{
    _Atomic unsigned counter = 0;
    unsigned callers = 0, called = 0;
    for (unsigned cpu = 0; cpu < AT_ONCE && cpu < lcpu_count; cpu++) {
        callers += cpu && smp_listens(cpu);
        called += smp_listens(cpu);
    }
    for (unsigned round = 0; round < 3; round++)
        smp_call_all(call_on, &counter);
    return counter == 3 * callers * (called - 1);
}

static bool all_are_called_once(void)
{
    _Atomic unsigned counter = 0;
    smp_call_all(count_up, &counter);
    return counter == listeners();
}

static bool absent_cpu_is_refused(void)
{
    unsigned seen = NR_CPUS;
    bool refused = !smp_call(lcpu_count, note_index, &seen);
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        if (!smp_listens(cpu))
            refused = refused && !smp_call(cpu, note_index, &seen);
    return refused && seen == NR_CPUS;
}

/* -------------------------------------------------------------------- TLB */

enum { OLD = 0x01d01d01d, NEW = 0x4e34e34e3, FAULT = 0xfa017 };

static _Atomic unsigned surprised;

static void expect_to_read(void *value)
{
    uint64_t seen;
    if (!probe_read((const uint64_t *)SCRATCH_BASE, &seen))
        seen = FAULT;
    if (seen != *(uint64_t *)value)
        count_up(&surprised);
}

static void all_expect(uint64_t value)
{
    smp_call_all(expect_to_read, &value);
}

static bool mappings_end_everywhere(void)
{
    uint64_t before = frames_allocate(1), after = frames_allocate(1);
    *(uint64_t *)phys_to_virt(before) = OLD;
    *(uint64_t *)phys_to_virt(after) = NEW;
    surprised = 0;
    paging_map(SCRATCH_BASE, before, PAGE_NX);
    all_expect(OLD);
    paging_unmap(SCRATCH_BASE);
    all_expect(FAULT);
    paging_map(SCRATCH_BASE, after, PAGE_NX);
    all_expect(NEW);
    paging_unmap(SCRATCH_BASE);
    frames_free(before, 1);
    frames_free(after, 1);
    return !surprised;
}

const struct check ipi_checks[] = {
    {"each CPU runs what it is called for", each_cpu_answers},
    {"a call to all runs once on every CPU", all_are_called_once},
    {"CPUs that call each other at once all go on", cpus_call_each_other},
    {"a call to a CPU that is not there, or not online, is refused",
     absent_cpu_is_refused},
    {"a page that is unmapped faults on every CPU, and its new one is seen",
     mappings_end_everywhere},
    {0},
};
