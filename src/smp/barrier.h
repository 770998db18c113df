/* SPDX-License-Identifier: BSD-2-Clause */
/* Where all CPUs meet once, and the gate behind which the scheduler begins. */
#pragma once

/* The BSP says how many CPUs meet, itself included; before that the others
 * wait. */
void rendezvous_open(unsigned cpus);
/* Wait until as many CPUs have called this as the BSP said. */
void rendezvous(void);

void scheduler_gate_open(void);
void scheduler_gate_wait(void);
/* An AP says that it is through, its last stage sent; how many have said so. */
void scheduler_entered(void);
unsigned scheduler_cpus(void);
