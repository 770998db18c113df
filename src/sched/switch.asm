; SPDX-License-Identifier: BSD-2-Clause

bits 64
section .text progbits alloc exec nowrite align=16

; context_switch: leave one thread, go on with another.
;
; MODE       64-bit
; IN         rdi: where to store this thread's stack pointer
;            rsi: the other thread's stack pointer, stored here before or made
;                 by thread_create(): six registers and a return address
; OUT        returns on the other thread's stack, to where that one called
; CLOBBERS   what the ABI lets a function clobber; RFLAGS are the caller's,
;            who has interrupts off on both sides
; STACK      both; the one that is left holds the ABI's callee-saved registers
; INTERRUPTS off
; STAGES     none
global context_switch:function (context_switch.end - context_switch)
context_switch:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
.other_stack:
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
.end:
