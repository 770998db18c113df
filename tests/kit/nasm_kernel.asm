; SPDX-License-Identifier: BSD-2-Clause
;
; A kernel that is not lamppost and uses its kit, in NASM: the BSP starts all
; APs at 0x8000 from 32-bit code, each climbs to 64 bits and reports itself.
;
;   APS     how many APs there are
;   ROUNDS  how often each AP lights its lamp 8a
;   STATE   use the kit's lock and counts (at 0x7000), and COM1
;   HELD    somebody who never moves holds the lock from the start
;   WIDE    every CPU believes that its APIC ID is 0x12345678
;   BROKEN  the APs load a CR3 that points at an empty page

PAGE    equ 0x8000
STATE_AT equ 0x7000
KEPT_A  equ 0x11223344          ; what the kit must leave alone
KEPT_B  equ 0x55667788

%ifdef STATE
  %define LAMPPOST_COM1
  %define LAMPPOST_STATE16 STATE_AT
  %define LAMPPOST_STATE32 STATE_AT
  %define LAMPPOST_STATE64 abs STATE_AT
%endif
%ifdef WIDE
  %macro cpuid 0
    mov eax, 11
    mov ebx, 1
    mov edx, 0x12345678
  %endmacro
%endif
%include "lamppost.inc"

LAMPPOST_NAME 0x8a, OWN_STAGE, "long64", "a stage of our own", "to arrive"
LAMPPOST_NAME 0xa4, AP_ONLINE, "long64", "this AP is up", "nothing"
LAMPPOST_NAME 0xc7, BSP_ALL_ONLINE, "prot32", "every AP is up", "nothing"

section .multiboot
    dd 0x1badb002, 0, -0x1badb002

section .text
bits 32
global _start
_start:
    cld
    xor eax, eax
    mov edi, STATE_AT
    mov ecx, LAMPPOST_STATE_SIZE
    rep stosb
%ifdef HELD
    mov dword [STATE_AT], 1
%endif
    LAMP 0xb0

    mov dword [pml4], pdpt + 3
    mov dword [pdpt], directory + 3
    mov dword [directory], 0x83 ; 2 MiB
    mov esi, trampoline
    mov edi, PAGE
    mov ecx, trampoline_end - trampoline
    rep movsb
    mov dword [0xfee00300], 0xc4500 ; INIT to all others

    rdtsc
    lea ebx, [eax + 20000000]
.wait:
    pause
    rdtsc
    sub eax, ebx
    js .wait
    mov dword [0xfee00300], 0xc4600 | PAGE >> 12
.missing:
    pause
    cmp dword [arrived], APS
    jne .missing
    LAMP 0xc7
    mov al, 0x10
    out 0xf4, al
.halt:
    hlt
    jmp .halt

%define LAMPPOST_BASE16 trampoline
%define LAMPPOST_BASE32 trampoline - PAGE
bits 16
trampoline:
    cli
    mov ebp, KEPT_A
    mov esp, KEPT_B
    LAMP 0x10
    o32 lgdt [cs:gdt_pointer - trampoline]
    LAMP 0x12
    mov eax, 0x11
    mov cr0, eax
    LAMP 0x13
    jmp dword 8:PAGE + start32 - trampoline
    LAMPPOST_EMITTER

bits 32
start32:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    LAMP 0x30
    mov eax, 0x20
    mov cr4, eax
    LAMP 0x31
%ifdef BROKEN
    mov eax, empty
%else
    mov eax, pml4
%endif
    mov cr3, eax
    LAMP 0x32
    mov ecx, 0xc0000080
    mov eax, 0x100
    xor edx, edx
    wrmsr
    LAMP 0x33
    mov eax, 0x80000011
    mov cr0, eax
    LAMP 0x34
    jmp 0x18:PAGE + start64 - trampoline
    LAMPPOST_EMITTER

bits 64
start64:
    LAMP 0x60
    mov rbx, 0x1122334455667788
    mov r12d, ROUNDS
.round:
    LAMP 0x8a
    dec r12d
    jnz .round
    mov rax, 0x1122334455667788
    cmp rbx, rax
    jne .spoiled
    cmp ebp, KEPT_A
    jne .spoiled
    cmp esp, KEPT_B
    jne .spoiled
    LAMP 0xa4
    lock inc dword [abs arrived]
.halt:
    hlt
    jmp .halt
.spoiled:
    LAMP 0x8f
    jmp .halt
    LAMPPOST_EMITTER

    align 8
gdt:
    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_pointer:
    dw $ - gdt - 1
    dd PAGE + gdt - trampoline
trampoline_end:

section .bss
    alignb 4096
pml4:       resb 4096
pdpt:       resb 4096
directory:  resb 4096
empty:      resb 4096
arrived:    resd 1
