/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel that is not lamppost and uses its kit, in GAS: as nasm_kernel.asm,
 * with the same settings, but its trampoline is told where it runs by EBP.
 */
#define PAGE     0x8000
#define STATE_AT 0x7000
#define KEPT     0x55667788 /* what the kit must leave alone */

#ifdef WIDE
.macro cpuid
    movl $11, %eax
    movl $1, %ebx
    movl $0x12345678, %edx
.endm
#endif
#ifdef STATE
.set LAMPPOST_COM1, 1
#endif
.include "lamppost_gas.inc"

LAMPPOST_NAME 0x8a, OWN_STAGE, "long64", "a stage of our own", "to arrive"
LAMPPOST_NAME 0xa4, AP_ONLINE, "long64", "this AP is up", "nothing"
LAMPPOST_NAME 0xc7, BSP_ALL_ONLINE, "prot32", "every AP is up", "nothing"

.section .multiboot, "a"
    .long 0x1badb002, 0, -0x1badb002

.text
.code32
.globl _start
_start:
    cld
    xorl %eax, %eax
    movl $STATE_AT, %edi
    movl $LAMPPOST_STATE_SIZE, %ecx
    rep stosb
#ifdef HELD
    movl $1, STATE_AT
#endif
    LAMP32 0xb0

    movl $pdpt + 3, pml4
    movl $directory + 3, pdpt
    movl $0x83, directory       /* 2 MiB */
    movl $trampoline, %esi
    movl $PAGE, %edi
    movl $trampoline_end - trampoline, %ecx
    rep movsb
    movl $0xc4500, 0xfee00300   /* INIT to all others */
    rdtsc
    leal 20000000(%eax), %ebx
.Lwait:
    pause
    rdtsc
    subl %ebx, %eax
    js .Lwait
    movl $0xc4600 | PAGE >> 12, 0xfee00300
.Lmissing:
    pause
    cmpl $APS, arrived
    jne .Lmissing
    LAMP32 0xc7
    movb $0x10, %al
    outb %al, $0xf4
.Lhalt:
    hlt
    jmp .Lhalt

.set LAMPPOST_BASE16, trampoline
.set LAMPPOST_BASE32, trampoline
.code16
trampoline:
    cli
    xorl %ebp, %ebp
    movw %cs, %bp
    shll $4, %ebp
    movl $KEPT, %esp
#ifdef STATE
    movw $STATE_AT >> 4, %ax
    movw %ax, %fs
#endif
    LAMP16 0x10
    lgdtl %cs:gdt_pointer - trampoline
    LAMP16 0x12
    movl $0x11, %eax
    movl %eax, %cr0
    LAMP16 0x13
    ljmpl $8, $PAGE + start32 - trampoline
#ifdef STATE
    LAMPPOST_EMITTER16 0, %fs
#else
    LAMPPOST_EMITTER16
#endif

.code32
start32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    LAMP32 0x30, %ebp
    movl $0x20, %eax
    movl %eax, %cr4
    LAMP32 0x31, %ebp
#ifdef BROKEN
    movl $empty, %eax
#else
    movl $pml4, %eax
#endif
    movl %eax, %cr3
    LAMP32 0x32, %ebp
    movl $0xc0000080, %ecx
    movl $0x100, %eax
    xorl %edx, %edx
    wrmsr
    LAMP32 0x33, %ebp
    movl $0x80000011, %eax
    movl %eax, %cr0
    LAMP32 0x34, %ebp
    ljmp $0x18, $PAGE + start64 - trampoline
#ifdef STATE
    LAMPPOST_EMITTER32 STATE_AT
#else
    LAMPPOST_EMITTER32
#endif

.code64
start64:
    LAMP64 0x60
    movabsq $0x1122334455667788, %rbx
    movl $ROUNDS, %r12d
.Lround:
    LAMP64 0x8a
    decl %r12d
    jnz .Lround
    movabsq $0x1122334455667788, %rax
    cmpq %rbx, %rax
    jne .Lspoiled
    cmpl $PAGE, %ebp
    jne .Lspoiled
    cmpl $KEPT, %esp
    jne .Lspoiled
    LAMP64 0xa4
    movl $arrived, %ebx
    lock incl (%rbx)
.Lparked:
    hlt
    jmp .Lparked
.Lspoiled:
    LAMP64 0x8f
    jmp .Lparked
#ifdef STATE
    LAMPPOST_EMITTER64 STATE_AT
#else
    LAMPPOST_EMITTER64
#endif

.balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long PAGE + gdt - trampoline
trampoline_end:

.bss
.balign 4096
pml4:      .skip 4096
pdpt:      .skip 4096
directory: .skip 4096
empty:     .skip 4096
arrived:   .skip 4
