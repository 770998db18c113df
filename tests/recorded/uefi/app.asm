; SPDX-License-Identifier: BSD-2-Clause
;
; An application for UEFI that raises one exception: a PE file by hand.
;
;   nasm -f bin -D CASE_read app.asm           for X64 firmware
;   nasm -f bin -D IA32 -D CASE_divide app.asm for IA32 firmware

PAGE            equ 0x1000
SUBSYSTEM_EFI   equ 10
CODE            equ 0x60000020          ; of a section: code, execute, read
RELOCATIONS     equ 0x42000040          ; initialised data, discardable, read
TYPE            equ 0x0206              ; executable, debug data stripped
UNMAPPED        equ 0x123456789000      ; EDK II maps RAM and devices one to one

        org     0
        db      'MZ'
        times   0x3C - ($ - $$) db 0
        dd      signature

signature:
        db      'PE', 0, 0
%ifdef IA32
        dw      0x014C, 2               ; machine, sections
        dd      0, 0, 0
        dw      sections - optional, TYPE | 0x0100
%else
        dw      0x8664, 2
        dd      0, 0, 0
        dw      sections - optional, TYPE
%endif
optional:
%ifdef IA32
        dw      0x010B, 0
%else
        dw      0x020B, 0
%endif
        dd      PAGE, PAGE, 0           ; sizes of code, data, zeros
        dd      entry, PAGE             ; entry, base of code
%ifdef IA32
        dd      2 * PAGE, 0             ; base of data, image base
%else
        dq      0                       ; image base
%endif
        dd      PAGE, PAGE              ; alignment in memory, in the file
        times   4 dd 0                  ; versions
        dd      3 * PAGE, PAGE, 0       ; sizes of image and headers, checksum
        dw      SUBSYSTEM_EFI, 0
%ifdef IA32
        times   4 dd 0x10000            ; stack and heap
%else
        times   4 dq 0x10000
%endif
        dd      0, 6                    ; flags, directories
        times   5 dq 0
        dd      2 * PAGE, 12            ; base relocations
sections:
        db      '.text', 0, 0, 0
        dd      PAGE, PAGE, PAGE, PAGE, 0, 0, 0, CODE
        db      '.reloc', 0, 0
        dd      PAGE, 2 * PAGE, PAGE, 2 * PAGE, 0, 0, 0, RELOCATIONS

        times   PAGE - ($ - $$) db 0
%ifdef IA32
        bits    32
%else
        bits    64
%endif

; MODE: 64-bit, IA32: 32-bit protected
; IN: UEFI's arguments, not used
; OUT: does not return
; CLOBBERS: everything
; STACK: UEFI's
; INTERRUPTS: as UEFI left them, on
; STAGES: none
entry:
%ifdef CASE_read
        mov     rbx, UNMAPPED
        mov     rax, [rbx + 8]
%elifdef CASE_write
        mov     rbx, UNMAPPED
        mov     [rbx + 8], rax
%elifdef CASE_call
        mov     rax, UNMAPPED
        call    rax
%elifdef CASE_call_null                 ; page 0 is mapped: it runs through it
        xor     eax, eax
        call    rax
%elifdef CASE_non_canonical
        mov     rbx, 1 << 63 | UNMAPPED
        mov     [rbx], rax
%elifdef CASE_selector
        mov     eax, 0x1230
        mov     ds, eax
%elifdef CASE_divide
        xor     edx, edx
        xor     ecx, ecx
        div     ecx
%elifdef CASE_ud2
        ud2
%else
%error "expected -D CASE_..."
%endif
.survived:
        jmp     .survived

        times   2 * PAGE - ($ - $$) db 0
        dd      PAGE, 12                ; a block of relocations with none in it
        dw      0, 0
        times   3 * PAGE - ($ - $$) db 0
