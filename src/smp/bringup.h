/* SPDX-License-Identifier: BSD-2-Clause */
/* Starting the APs. */
#pragma once

#include "acpi/madt.h"
#include "boot/options.h"
#include "smp/lcpu.h"

/* Make an lcpu block for the BSP (index 0) and each usable CPU of the MADT,
 * with its stacks, but for no more than `most` CPUs; 0: no such limit. */
void lcpus_init(const struct madt *madt, uint64_t most);

/* INIT and SIPI to each AP, through the trampoline at `trampoline`, and wait
 * until each is online.  One that does not arrive is reported, and costs only
 * itself. */
void smp_bring_up(enum smp_mode mode, uint64_t trampoline);

/* Wait until every AP that goes on has come to `wanted`; returns how many CPUs
 * have.  One that does not come is reported, and costs only itself. */
unsigned smp_await(enum lcpu_state wanted);
