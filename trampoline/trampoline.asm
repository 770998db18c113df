; SPDX-License-Identifier: BSD-2-Clause
;
; The AP trampoline: what a CPU executes between its SIPI and C.
;
; This file is assembled and linked by itself, at address 0.  The kernel
; carries the result as data, copies it to a free page below 640 KiB, adds the
; page's address to the words that .reloc names, and sends that page's number
; in the SIPI (src/smp/trampoline.c).  Nothing is ever executed in place.
;
; One section per code size, in the order of execution.  No relocation may
; survive in .text16 (the build checks it): 16-bit code reaches its data
; relative to CS, whose base is the page.
;
; EBX (RBX) holds the page's address from lcpu_start32 on, EBP (RBP) the
; address of this CPU's trace record from the start.

%include "constants.inc"
%include "stages.inc"

%define STAGE_RETURN16(label) label - trampoline
%define STAGE_RETURN32(label) ebx + label
%define EMIT16 emit16
%define EMIT32 emit32
%define EMIT64 emit64
%define TRACE_SAME_LAYOUT
%include "stage.inc"
%include "cpuid.inc"

; CR0 while the AP climbs: assigned, not OR-ed, because INIT leaves CD and NW
; set and a CPU that keeps them runs uncached.
AP_CR0          equ CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP

; What a word holds until the copy is relocated: an address that is mapped
; nowhere, so that a forgotten relocation names itself.
UNRELOCATED     equ 0x5e1f10c8

; RELOCATE place, target: the kernel stores page + target at page + place.
%macro RELOCATE 2
    [section .reloc progbits noalloc]
    dd %1, %2
    __?SECT?__
%endmacro

bits 16
%define SITE_SIZE SITE_SIZE_16
section .text16 progbits alloc exec nowrite align=16

; lcpu_start16: where a SIPI lands.
;
; MODE       real; CS = page >> 4, IP = 0, every other register as INIT left
;            it [SDM 3A "MP Initialization Protocol Algorithm for MP Systems"]
; IN         the parameters below, filled in by the BSP
; OUT        32-bit protected mode at lcpu_start32, EBX = page, EBP = record
; CLOBBERS   everything
; STACK      none
; INTERRUPTS off, and no IDT: an exception here is a triple fault at once
; STAGES     AP_REAL16 AP_SEGMENTS AP_GDT AP_PE
global trampoline
global lcpu_start16:function (lcpu_start16.end - lcpu_start16)
trampoline:
lcpu_start16:
    cli                         ; one byte: Bochs can stop from the next one on
    cld
    jmp short .start

    align 8, db 0
.parameters:                    ; struct trampoline_parameters
    times TRAMPOLINE_PARAMETERS_SIZE db 0

%define trampoline_parameters lcpu_start16.parameters
%define PARAMETER(name) trampoline_parameters - trampoline + name

.start:
%if TRACE
    ; Claim a trace record: the slots are handed out in order of arrival, so
    ; that a CPU nobody expected has one too.
    mov gs, [cs:PARAMETER(PARAM_TRACE_SEGMENT)]
    mov eax, TRACE_SLOT_PARAGRAPHS
    lock xadd [gs:TRACE_CONTROL_NEXT], eax
    cmp eax, [gs:TRACE_CONTROL_END]
    jae .parked                 ; more CPUs than slots: none can be traced
    mov fs, ax
    imul ebp, eax, TRACE_PARAGRAPH

    TRACE_IDENTIFY
%endif

    STAGE AP_REAL16
    mov ax, cs
    mov ds, ax
    mov es, ax
    mov ss, ax
    STAGE AP_SEGMENTS

    xor ebx, ebx
    mov bx, cs
    shl ebx, 4                  ; the page
    o32 lidt [null_idt - trampoline]
    o32 lgdt [gdt_pointer - trampoline]
    STAGE AP_GDT

    mov eax, AP_CR0
    mov cr0, eax
    ; now: PE=1 PAE=0 LME=0 LMA=0 PG=0 CS.D=0 -> protected mode, real-mode CS
    STAGE AP_PE
.far32:
    jmp dword SELECTOR_CODE32:UNRELOCATED
    RELOCATE lcpu_start16.far32 + 2, lcpu_start32

.parked:
    hlt
    jmp .parked
.end:

    EMITTER 16

    align 8, db 0
; The trampoline's descriptors, each with its Accessed bit set already: the
; CPU then has no reason to write to this page.
global trampoline_gdt:object (trampoline_gdt.end - trampoline_gdt)
trampoline_gdt:
    dq 0
    dq DESCRIPTOR_CODE64
    dq DESCRIPTOR_DATA
    dq DESCRIPTOR_CODE32
.end:
gdt_pointer:
    dw trampoline_gdt.end - trampoline_gdt - 1
.base:
    dd UNRELOCATED
    RELOCATE gdt_pointer.base, trampoline_gdt
null_idt:
    dw 0
    dd 0

bits 32
%define SITE_SIZE SITE_SIZE_32
section .text32 progbits alloc exec nowrite align=16

; lcpu_start32: from protected mode to compatibility mode.
;
; MODE       32-bit protected, paging off, CS = SELECTOR_CODE32
; IN         EBX = page, EBP = this CPU's trace record
; OUT        64-bit mode at lcpu_start64, EBX and EBP kept
; CLOBBERS   everything else
; STACK      none
; INTERRUPTS off
; STAGES     AP_PROT32 AP_PAE AP_CR3 AP_LME AP_PG
;
; The order of the four steps is the manual's [SDM 3A "Initializing IA-32e
; Mode"]: PAE, CR3, LME, PG.
global lcpu_start32:function (lcpu_start32.end - lcpu_start32)
lcpu_start32:
    mov eax, SELECTOR_DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    ; now: PE=1 PAE=0 LME=0 LMA=0 PG=0 CS.D=1 -> 32-bit protected mode
    STAGE AP_PROT32

    mov eax, CR4_PAE
    mov cr4, eax
    STAGE AP_PAE

    mov eax, [ebx + trampoline_parameters + PARAM_CR3]
    mov cr3, eax
    STAGE AP_CR3

    mov ecx, MSR_EFER
    mov eax, [ebx + trampoline_parameters + PARAM_EFER]
    xor edx, edx
    wrmsr
    STAGE AP_LME

    mov eax, AP_CR0 | CR0_PG
    mov cr0, eax
    ; now: PE=1 PAE=1 LME=1 LMA=1 PG=1 CS.L=0 -> compatibility mode
    STAGE AP_PG
.far64:
    jmp SELECTOR_CODE64:UNRELOCATED
    RELOCATE lcpu_start32.far64 + 1, lcpu_start64
.end:

    EMITTER 32

bits 64
%define SITE_SIZE SITE_SIZE_64
section .text64 progbits alloc exec nowrite align=16

; lcpu_start64: from 64-bit mode to C.
;
; MODE       64-bit, CS = SELECTOR_CODE64, the kernel's page tables with this
;            page identity-mapped
; IN         EBX = page, EBP = this CPU's trace record
; OUT        lcpu.entry(lcpu) in C: RDI = the lcpu block, RSP = its stack with
;            a null return address, RBP = 0
; CLOBBERS   everything
; STACK      none before AP_STACK, then lcpu.stack
; INTERRUPTS off
; STAGES     AP_LONG64 AP_IDENTIFIED AP_LCPU_FOUND AP_STACK AP_FPU
;            AP_ENTERING_C, or AP_UNKNOWN, AP_ABANDONED
global lcpu_start64:function (lcpu_start64.end - lcpu_start64)
lcpu_start64:
    mov ebx, ebx                ; the upper halves are undefined after the
    mov ebp, ebp                ; switch [SDM 1 "General-Purpose Registers"]
    mov eax, SELECTOR_DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    ; now: PE=1 PAE=1 LME=1 LMA=1 PG=1 CS.L=1 -> 64-bit mode
    STAGE AP_LONG64

%if TRACE
    mov r12d, [rbp + TRACE_RECORD_APIC_ID]
%else
    mov r8, rbx                 ; CPUID writes EBX
    READ_APIC_ID
    mov rbx, r8
    mov r12d, edx
%endif
    STAGE AP_IDENTIFIED

    mov rdx, [rbx + trampoline_parameters + PARAM_LCPUS]
    mov eax, r12d
.probe:                         ; it ends: some places are empty
    and eax, LCPU_TABLE_SIZE - 1
    mov r13, [rdx + rax * 8]
    test r13, r13
    jz .unknown
    cmp r12d, [r13 + LCPU_APIC_ID]
    je .found
    inc eax
    jmp .probe
.unknown:
    STAGE AP_UNKNOWN
    jmp .parked
.found:
    mov [r13 + LCPU_RECORD], rbp
    mov eax, LCPU_STATE_BOOTING ; pairs with the BSP's store before its INIT
    mov ecx, LCPU_STATE_ALIVE   ; and its exchange to ABANDONED
    lock cmpxchg [r13 + LCPU_STATE], ecx
    jne .abandoned
    STAGE AP_LCPU_FOUND

    mov rsp, [r13 + LCPU_STACK]
    push 0                      ; the return address of a function that has
    STAGE AP_STACK              ; no caller: backtraces end here

    mov r8, rbx
    ENABLE_FPU
    mov rbx, r8
    STAGE AP_FPU

    STAGE AP_ENTERING_C
    xor ebp, ebp
    mov rdi, r13
    jmp [r13 + LCPU_ENTRY]

.abandoned:
    STAGE AP_ABANDONED
.parked:
    cli
    hlt
    jmp .parked
.end:

    EMITTER 64
