/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ring 3, as far as a self-test needs it: each CPU is ready for it, and one
 * small program goes there and comes back.
 */
#pragma once

#include <stdint.h>

#include "cpu/vectors.h"

#define RING3_QUESTION 0x3117

/* Set the SYSCALL MSRs of the CPU that calls. */
void ring3_init(void);

/* What the program did on one CPU. */
struct ring3_trip {
    uint32_t question;       /* what SYSCALL brought */
    uint64_t answer;         /* what the program had in RAX at its end */
    struct trap_frame frame; /* of the interrupt that ended it */
    uint64_t frame_top;      /* the address just above that frame */
    uint64_t rsp0;
};

/* Run the program at `entry` in ring 3 on the CPU that calls, interrupts
 * off. */
void ring3_run(uint64_t entry, uint64_t stack, struct ring3_trip *trip);

/* The interrupt that ends it: ring3_run() goes on. */
_Noreturn void ring3_interrupt(struct trap_frame *frame);

extern const char ring3_program[], ring3_program_end[];
