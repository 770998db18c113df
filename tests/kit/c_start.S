/* SPDX-License-Identifier: BSD-2-Clause */
/* From Multiboot to c_kernel.c: 32 bits, then 64 where the kernel is built so. */
#ifdef WIDE
.macro cpuid
    movl $11, %eax
    movl $1, %ebx
    movl $0x12345678, %edx
.endm
#endif
#ifdef STATE
.set LAMPPOST_COM1, 1
#define KIT_STATE kit_state
#else
#define KIT_STATE
#endif
.include "lamppost_gas.inc"

.section .multiboot, "a"
    .long 0x1badb002, 0, -0x1badb002

.text
.code32
.globl _start
_start:
    LAMP32 0xb0
#ifdef __x86_64__
    movl $pdpt + 3, pml4
    movl $directory + 3, pdpt
    movl $0x83, directory       /* 2 MiB */
    movl $0x20, %eax
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl $0x100, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80000011, %eax
    movl %eax, %cr0
    LAMP32 0xb5
    lgdt gdt_pointer
    ljmp $8, $start64
    LAMPPOST_EMITTER32 KIT_STATE

.code64
start64:
    movl $stack_top, %esp
    LAMP64 0xb6
    call kmain
    LAMPPOST_EMITTER64 KIT_STATE

.balign 8
gdt:
    .quad 0, 0x00af9b000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
#else
    movl $stack_top, %esp
    call kmain
    LAMPPOST_EMITTER32 KIT_STATE
#endif

.bss
.balign 4096
pml4:      .skip 4096
pdpt:      .skip 4096
directory: .skip 4096
stack:     .skip 4096
stack_top:
