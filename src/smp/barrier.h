/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where CPUs meet: a sense-reversing barrier, usable again and again; the
 * rendezvous of the bring-up, made of one; and the gate behind which the
 * scheduler begins.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "smp/lcpu.h"

/* Who waits longer will wait for ever: somebody was counted who never comes.
 * Long, since a host may run hundreds of CPUs on one thread. */
#define MEET_DEADLINE_US 60000000

struct barrier {
    const char *name;
    _Atomic unsigned expected; /* 0: nobody has counted yet */
    _Atomic unsigned missing;
    _Atomic bool sense; /* turns round when the last one arrives */
    _Atomic uint64_t arrived[(NR_CPUS + 63) / 64];
};

/* `cpus` will meet. */
void barrier_init(struct barrier *barrier, const char *name, unsigned cpus);
/* Wait until all have called it; true for one of them.  What each did before
 * is seen by all after.  Panics with the names of those who did not come. */
bool barrier_wait(struct barrier *barrier);

/* The BSP says how many CPUs meet, itself included; before that the others
 * wait. */
void rendezvous_open(unsigned cpus);
/* Wait until as many CPUs have called this as the BSP said. */
void rendezvous(void);

void scheduler_gate_open(void);
void scheduler_gate_wait(void);
