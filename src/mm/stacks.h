/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stacks of one CPU, in a slot of STACK_SLOT bytes of their own:
 *
 *   +0x4000  IST stack 1, a page    +0x6000  IST stack 2
 *   +0x8000  IST stack 3            +0xc000  the stack, 16 KiB
 *
 * and unmapped pages between them: an overflow faults, it corrupts nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/descriptors.h"

struct stacks {
    uint64_t top; /* of the stack; 16 KiB aligned */
    uint64_t ist[IST_COUNT - 1];
};

/* Map a stack that ends at `top`, and fill it with poison. */
void stack_map(uint64_t top, size_t size);

/* Map the stacks of the CPU with this index. */
struct stacks stacks_map(unsigned idx);
/* Where they are, once mapped. */
struct stacks stacks_of(unsigned idx);

/* Is this in the unmapped page below a stack?  Names the stack if so. */
bool stack_above_guard(uint64_t address, char *name, size_t size);
