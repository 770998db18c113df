/* SPDX-License-Identifier: BSD-2-Clause */
/* From a vector to the function that handles it. */
#pragma once

#include "cpu/vectors.h"

/* Called by every stub (cpu/vectors.asm), interrupts off. */
void interrupt_handle(struct trap_frame *frame);
