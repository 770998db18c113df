# SPDX-License-Identifier: BSD-2-Clause
#
# A kernel of somebody else: Multiboot, 32 bits, and dead at its second instruction.
    .text
    .long 0x1badb002, 0, -0x1badb002
    .globl _start
_start:
    lidt no_idt
    ud2
no_idt:
    .word 0
    .long 0
