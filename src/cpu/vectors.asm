; SPDX-License-Identifier: BSD-2-Clause
;
; The 256 entries of the IDT: each makes the frame of struct trap_frame
; (cpu/vectors.h) and calls interrupt_handle().

%include "constants.inc"

bits 64
section .text progbits alloc exec nowrite align=16

extern interrupt_handle

; The exceptions for which the CPU pushes an error code
; [SDM 3A "Protected-Mode Exceptions and Interrupts"].
%define HAS_ERROR_CODE(v) (v == 8 || (v >= 10 && v <= 14) || v == 17 || \
                           v == 21 || v == 29 || v == 30)

%macro STUB 1
vector_stub_%1:
%if !HAS_ERROR_CODE(%1)
    push 0
%endif
    push %1
    jmp vector_common
%endmacro

%assign v 0
%rep 256
    STUB v
%assign v v + 1
%endrep

; vector_common: save the registers, call C, restore, return.
;
; MODE       64-bit, through an interrupt gate
; IN         vector and error code on the stack, above the CPU's frame
; OUT        returns to where the exception came from, if C returns
; CLOBBERS   nothing
; STACK      the interrupted one, or the IST's: 16-byte aligned by the CPU
; INTERRUPTS off
; STAGES     none
global vector_common:function (vector_common.end - vector_common)
vector_common:
    test byte [rsp + TRAP_CS - TRAP_VECTOR], 3
    jz .ring_0
    swapgs                      ; from ring 3: the kernel's GS base
.ring_0:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld                         ; the ABI's, not the interrupted code's
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call interrupt_handle
    mov rsp, rbp
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    test byte [rsp + TRAP_CS - TRAP_VECTOR], 3
    jz .to_ring_0
    swapgs
.to_ring_0:
    add rsp, 16
    iretq
.end:

section .rodata progbits alloc noexec nowrite align=8

global vector_stubs
vector_stubs:
%assign v 0
%rep 256
    dq vector_stub_%+v
%assign v v + 1
%endrep
