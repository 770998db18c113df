; SPDX-License-Identifier: BSD-2-Clause
; A boot sector that forgets CR4.PAE: QEMU ignores the write to CR0, and what follows is 64-bit code in
; a mode that is none.  Then it waits for interrupts, which meet the BIOS's vectors.
org 0x7C00
bits 16
    cli
    xor ax, ax
    mov ds, ax
    lgdt [pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 8:protected
bits 32
protected:
    mov ax, 16
    mov ds, ax
    mov ss, ax
    mov esp, 0x7C00
    mov eax, 0x10000
    mov cr3, eax
    mov ecx, 0xC0000080         ; EFER
    rdmsr
    or eax, 1 << 8              ; LME
    wrmsr
    mov eax, cr0
    or eax, 1 << 31             ; PG, and no PAE before
    mov cr0, eax
    jmp 24:wide
bits 64
wide:
    mov al, 'K'
    out 0xE9, al
.wait:
    sti
    hlt
    jmp .wait
align 8
table:
    dq 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF
pointer:
    dw $ - table - 1
    dd table
times 510 - ($ - $$) db 0
    dw 0xAA55
