/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/ipi.h"

#include "apic/apic.h"
#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/panic.h"
#include "smp/call.h"
#include "time/tsc.h"
#include "trace/stage.h"

void ipi_send(unsigned cpu, enum vector vector)
{
    const char *problem =
        apic_send(lcpus[cpu].id, ICR_FIXED | ICR_ASSERT | vector);
    if (problem)
        console_printf("CPU %u (APIC ID %u): sending vector %#x: %s\n", cpu,
                       lcpus[cpu].id, vector, problem);
}

void ipi_listeners(struct cpuset *to)
{
    *to = (struct cpuset){0};
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        if (cpu != this_cpu()->lcpu->idx && smp_listens(cpu))
            cpuset_add(to, cpu);
}

static _Noreturn void unanswered(const char *what, unsigned cpu)
{
    uint32_t id = lcpus[cpu].id;
    STAGE_WITH(IPI_UNANSWERED, id);
    uint8_t stage = trace_last_stage(id);
    const char *sentence = stage ? stage_sentence(stage) : NULL;
    panic("CPU %u (APIC ID %u) did not answer %s of CPU %u within %u ms; its "
          "last stage is %02x: %s",
          cpu, id, what, this_cpu()->lcpu->idx, ANSWER_DEADLINE_US / 1000,
          stage, sentence ? sentence : "it lit no lamp");
}

/* Of all CPUs to all others.  Relaxed: it shows that there is progress, and
 * publishes nothing. */
static _Atomic unsigned answers;

void ipi_answer_given(void)
{
    atomic_fetch_add_explicit(&answers, 1, memory_order_relaxed);
}

/* Who is waited for may itself wait for many others, each of them slow where
 * the host has few CPUs: not its answer alone is progress, any answer is. */
void ipi_await(const char *what, const struct cpuset *from,
               bool (*answered)(unsigned cpu))
{
    unsigned seen = atomic_load_explicit(&answers, memory_order_relaxed);
    uint64_t deadline = deadline_in(ANSWER_DEADLINE_US);
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++) {
        while (cpuset_has(from, cpu) && !answered(cpu)) {
            smp_serve();
            unsigned now = atomic_load_explicit(&answers, memory_order_relaxed);
            if (now != seen) {
                seen = now;
                deadline = deadline_in(ANSWER_DEADLINE_US);
            } else if (deadline_passed(deadline) && !answered(cpu)) {
                unanswered(what, cpu);
            }
            pause();
        }
    }
}
