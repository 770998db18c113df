; SPDX-License-Identifier: BSD-2-Clause
;
; To ring 3 and back: by IRETQ and SYSRET, by SYSCALL and an interrupt.
; [SDM 3A "Fast System Calls in 64-Bit Mode", SDM 2B "SYSCALL", "SYSRET"]

%include "constants.inc"

bits 64
section .text progbits alloc exec nowrite align=16

extern syscall_handle

; void ring3_enter(uint64_t entry, uint64_t stack)
;
; MODE       64-bit, ring 0
; IN         RDI, RSI: RIP and RSP in ring 3; GS base the CPU's own
; OUT        returns when ring3_leave() is called
; CLOBBERS   what the ABI allows
; STACK      from here on RSP0 and SYSCALL's: traps push below this frame
; INTERRUPTS off, in ring 3 too
; STAGES     none
global ring3_enter:function (ring3_enter.end - ring3_enter)
ring3_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8                  ; 16-byte aligned, as the CPU makes a trap's
    mov [gs:PERCPU_RSP0], rsp
    push SELECTOR_USER_DATA
    push rsi
    push RFLAGS_RESERVED1       ; IF=0, IOPL=0
    push SELECTOR_USER_CODE
    push rdi
    swapgs
    iretq                       ; now: CPL=3
.end:

; _Noreturn void ring3_leave(void): make ring3_enter() return.
;
; MODE       64-bit, ring 0, GS base the CPU's own
; IN         nothing
; OUT        as ring3_enter()
; CLOBBERS   what the ABI allows
; STACK      any; ring3_enter()'s afterwards
; INTERRUPTS off
; STAGES     none
global ring3_leave:function (ring3_leave.end - ring3_leave)
ring3_leave:
    mov rsp, [gs:PERCPU_RSP0]
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
.end:

; syscall_entry: where LSTAR points.
;
; MODE       64-bit, ring 0, GS base still ring 3's
; IN         RAX the argument; RCX RIP and R11 RFLAGS of ring 3
; OUT        RAX what syscall_handle(argument) returned, by SYSRET
; CLOBBERS   RDI RSI RDX R8-R10 (as a C function does), RCX R11
; STACK      ring 3's until RSP0 is loaded: not a word may be pushed
; INTERRUPTS off (FMASK)
; STAGES     none
global syscall_entry:function (syscall_entry.end - syscall_entry)
syscall_entry:
    swapgs
    mov [gs:PERCPU_USER_RSP], rsp
    mov rsp, [gs:PERCPU_RSP0]
    push rcx
    push r11
    mov rdi, rax
    call syscall_handle
    pop r11
    pop rcx
    mov rsp, [gs:PERCPU_USER_RSP]
    swapgs
    o64 sysret                  ; now: CPL=3
.end:

; The program for ring 3: it asks the kernel for something, and comes back
; for good with the answer in RAX.  Copied to a page of its own; EAX holds
; the argument of SYSCALL.
section .rodata progbits alloc noexec nowrite align=16
global ring3_program, ring3_program_end
ring3_program:
    mov eax, RING3_QUESTION
    syscall
    int VECTOR_RING3
    ud2
ring3_program_end:
