/* SPDX-License-Identifier: BSD-2-Clause */
/* In place of src/cpu/percpu.h. */
#pragma once

#include "cpu/cpu.h"
#include "smp/lcpu.h"

struct percpu {
    struct lcpu *lcpu;
    bool in_handler;
    unsigned preemption_offs;
};

extern _Thread_local struct percpu host_percpu;

static inline struct percpu *this_cpu(void)
{
    return &host_percpu;
}

static inline void preemption_off(void)
{
    host_percpu.preemption_offs++;
}

static inline void preemption_on(void)
{
    host_percpu.preemption_offs--;
}
