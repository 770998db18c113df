/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/percpu.h"

static struct percpu areas[NR_CPUS];

struct percpu *percpu_of(unsigned idx)
{
    return &areas[idx];
}

void percpu_load(struct percpu *cpu)
{
    cpu->self = cpu;
    wrmsr(MSR_GS_BASE, (uint64_t)cpu);
}
