/* SPDX-License-Identifier: BSD-2-Clause */
/* The vectors that this kernel knows, and the frame that their stubs build
 * [SDM 3A "Exception and Interrupt Reference"]. */
#pragma once

#include <stdint.h>

#define VECTORS 256

enum vector {
    VECTOR_NMI = 2,
    VECTOR_DOUBLE_FAULT = 8,
    VECTOR_PAGE_FAULT = 14,
    VECTOR_MACHINE_CHECK = 18,
    VECTOR_EXCEPTIONS = 32, /* below: exceptions; from here: interrupts */

    /* The local APIC delivers the highest pending one first. */
    VECTOR_TIMER = 0x40,
    VECTOR_RING3 = 0x80,      /* INT in ring 3 */
    VECTOR_RESCHEDULE = 0xf0, /* IPI: this CPU has something to run */
    VECTOR_CALL = 0xf1,       /* IPI: another CPU wants a function called */
    VECTOR_TLB = 0xf2,        /* IPI: a mapping is gone */
    VECTOR_SPURIOUS = 0xff,   /* the local APIC's own */
};

/* What is on the stack when the C handler runs: pushed by the stub
 * (cpu/vectors.asm), then by the CPU. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector;
    uint64_t error_code; /* 0 where the CPU pushes none */
    uint64_t rip, cs, rflags, rsp, ss;
};

extern const uint64_t vector_stubs[VECTORS];
