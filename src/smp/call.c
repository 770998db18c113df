/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/call.h"

#include "apic/apic.h"
#include "cpu/percpu.h"
#include "cpu/vectors.h"
#include "lib/console.h"

void smp_listen(void)
{
    atomic_store_explicit(&this_cpu()->listens, true, memory_order_release);
}

bool smp_listens(unsigned cpu)
{
    return cpu < lcpu_count &&
           atomic_load_explicit(&percpu_of(cpu)->listens, memory_order_acquire);
}

static bool send(unsigned cpu, enum vector vector)
{
    if (!smp_listens(cpu)) {
        console_printf("no interrupt sent to CPU %u: it is not online\n", cpu);
        return false;
    }
    const char *problem =
        apic_send(lcpus[cpu].id, ICR_FIXED | ICR_ASSERT | vector);
    if (problem)
        console_printf("CPU %u (APIC ID %u): sending vector %#x: %s\n", cpu,
                       lcpus[cpu].id, vector, problem);
    return !problem;
}

void smp_wake(unsigned cpu)
{
    send(cpu, VECTOR_RESCHEDULE);
}
