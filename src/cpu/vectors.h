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
    VECTOR_SPURIOUS = 0xff, /* the local APIC's */
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

/* Called by every stub. */
void exception_handle(struct trap_frame *frame);
