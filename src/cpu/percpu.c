/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/percpu.h"

static struct percpu areas[NR_CPUS];

struct percpu *percpu_of(unsigned idx)
{
    return &areas[idx];
}

void percpu_load(struct percpu *cpu)
{
    cpu->thread = &cpu->outside;
    cpu->outside.name = "outside";
    cpu->outside.state = THREAD_RUNNABLE;
    cpu->self = cpu;
    wrmsr(MSR_GS_BASE, (uint64_t)cpu);
}
