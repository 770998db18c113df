; SPDX-License-Identifier: 0BSD
;
; Somebody else's kernel: Multiboot, from 32 to 64 bits, "ok" on COM1.

bits 32
section .text
    dd 0x1badb002, 0, -0x1badb002

global start, paging_on, long_mode
start:
    cld
    mov dword [pml4], pdpt + 3
    mov dword [pdpt], directory + 3
    mov dword [directory], 3        ; the first 2 MiB

    mov eax, 1 << 5                 ; PAE
    mov cr4, eax
    mov eax, pml4
    mov cr3, eax
    mov ecx, 0xc0000080             ; EFER.LME
    mov eax, 1 << 8
    xor edx, edx
    wrmsr
    mov eax, 1 << 31 | 1            ; PG, PE
    mov cr0, eax
paging_on:
    lgdt [pointer]
    jmp 8:long_mode

bits 64
long_mode:
    mov dx, 0x3f8
    mov al, 'o'
    out dx, al
    mov al, 'k'
    out dx, al
.halt:
    hlt
    jmp .halt

section .data
align 8
gdt:
    dq 0, 0x00af9b000000ffff
pointer:
    dw pointer - gdt - 1
    dd gdt

section .bss
alignb 4096
pml4:       resb 4096
pdpt:       resb 4096
directory:  resb 4096
