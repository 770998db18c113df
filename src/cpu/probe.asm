; SPDX-License-Identifier: BSD-2-Clause
;
; A read that may fault: exception_handle() goes on at probe_failed.

bits 64
section .text progbits alloc exec nowrite align=16

; bool probe_read(const uint64_t *from, uint64_t *to)
;
; MODE       64-bit
; IN         RDI from, RSI to
; OUT        EAX 1 and *to, or 0 if the read raised #PF
; CLOBBERS   RAX
; STACK      the return address
; INTERRUPTS any
; STAGES     none
global probe_read:function (probe_end - probe_read)
global probe_load, probe_failed
probe_read:
probe_load:
    mov rax, [rdi]
    mov [rsi], rax
    mov eax, 1
    ret
probe_failed:
    xor eax, eax
    ret
probe_end:
