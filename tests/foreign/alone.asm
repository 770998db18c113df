; SPDX-License-Identifier: BSD-2-Clause
; A kernel that nobody here built, for one CPU: a boot sector that remaps the PICs,
; takes the PIT's interrupt a thousand times a second, and lights no lamp.
;
;   nasm -f bin [-D WIDE] [-D BUG_name] alone.asm -o alone.img
;
; WIDE              64-bit code; without it 32-bit code, without paging
; (no BUG)          sleeps for some ticks again and again
; BUG_masked        sleeps with the timer's line masked
; BUG_recursion     a function calls itself for ever
; BUG_real_ud2      ud2 in real mode, whose vector is as the BIOS left it
; BUG_prints        no bug: prints a line again and again
; BUG_program       no bug: a program at CPL 3 jumps to itself, and is interrupted
;
; MODE on entry: real16 at 0000:7c00, as the BIOS leaves it.

bits 16
org 0x7c00

%include "boot_sector.inc"

CR0_PE          equ 1 << 0
CR0_PG          equ 1 << 31
CR4_PAE         equ 1 << 5
MSR_EFER        equ 0xc0000080
EFER_LME        equ 1 << 8
TABLES          equ 0x1000          ; PML4, PDPT, PD from here
IDT             equ 0x80000
STACK           equ 0x7c00          ; downwards
STACK0          equ 0x9f000         ; of the TSS
PROGRAM_STACK   equ 0x9e000
PIC             equ 0x20            ; its first vector
DELAY           equ 300000          ; turns of a loop
TICK            equ 1193            ; of the PIT's 1 193 182 Hz
%ifdef BUG_masked
MASK            equ 0xff
%else
MASK            equ 0xfe            ; the timer's line
%endif

        LOAD_THE_REST
%ifdef BUG_real_ud2
        ud2
%endif
        TO_PROTECTED entry32

bits 32
entry32:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, STACK
        mov     al, 0x11            ; both PICs: edge, cascade, four words
        out     0x20, al
        out     0xa0, al
        mov     al, PIC
        out     0x21, al
        mov     al, PIC + 8
        out     0xa1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xa1, al
        mov     al, 1
        out     0x21, al
        out     0xa1, al
        mov     al, MASK
        out     0x21, al
        mov     al, 0xff
        out     0xa1, al
        mov     al, 0x34            ; the PIT's channel 0: a rate
        out     0x43, al
        mov     al, TICK & 0xff
        out     0x40, al
        mov     al, TICK >> 8
        out     0x40, al
        jmp     entry

        times 510 - ($ - $$) db 0
        dw      0xaa55
second:

entry:
%ifdef WIDE
        mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 3 * 0x1000 / 4
        rep stosd
        mov     dword [TABLES], TABLES + 0x1007
        mov     dword [TABLES + 0x1000], TABLES + 0x2007
        mov     edi, TABLES + 0x2000
        mov     eax, 0x87           ; 2 MiB pages, the program's too
        mov     ecx, 512
.page:
        mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        loop    .page
        mov     eax, CR4_PAE
        mov     cr4, eax
        mov     eax, TABLES
        mov     cr3, eax
        mov     ecx, MSR_EFER
        xor     edx, edx
        mov     eax, EFER_LME
        wrmsr
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        jmp     8:entry64
bits 64
entry64:
%define A       rax
%define IRET    iretq
%define CODE    0x08
%define CODE3   0x33
%define RING0   qword [task + 4]
GATE_SIZE       equ 16
%else
%define A       eax
%define IRET    iret
%define CODE    0x18
%define CODE3   0x23
%define RING0   dword [task + 4]
GATE_SIZE       equ 8
%endif

; GATE vector, handler: one gate of the IDT.  CLOBBERS: eax edi
%macro GATE 2
        mov     edi, IDT + %1 * GATE_SIZE
        mov     eax, %2
        mov     [edi], ax
        mov     word [edi + 2], CODE
        mov     word [edi + 4], 0x8e00
        shr     eax, 16
        mov     [edi + 6], ax
%endmacro

        mov     edi, IDT
        xor     eax, eax
        mov     ecx, 256 * GATE_SIZE / 4
        rep stosd
        GATE    PIC, tick
        lidt    [idtr]
        mov     RING0, STACK0
%ifndef WIDE
        mov     dword [task + 8], 0x10
%endif
        mov     ax, 0x38
        ltr     ax
        sti
%ifdef BUG_recursion
        mov     eax, 5
        call    count
%elifdef BUG_program
        mov     ax, 0x2b            ; IRET clears what CPL 3 may not have
        mov     ds, ax
        push    0x2b
        push    PROGRAM_STACK
        push    0x202
        push    CODE3
        push    program
        IRET
program:
        jmp     program
%elifdef BUG_prints
.line:
        mov     esi, alive
.letter:
        lodsb
        out     0xe9, al
        cmp     al, 10
        jne     .letter
        mov     ecx, DELAY
.turn:
        dec     ecx
        jnz     .turn
        jmp     .line
%endif
.again:
        mov     ecx, 100
        call    sleep
        jmp     .again

; MODE: as it was assembled  IN: ecx: ticks  CLOBBERS: eax ecx
sleep:
        add     ecx, [ticks]
.wait:
        hlt
        mov     eax, [ticks]
        cmp     eax, ecx
        jb      .wait
        ret

; MODE: as it was assembled
count:
        push    A
        inc     eax
        call    count
        pop     A
        inc     eax
        ret

; MODE: as it was assembled  an interrupt handler  CLOBBERS: nothing
tick:
        push    A
        inc     dword [ticks]
        mov     al, 0x20            ; EOI
        out     0x20, al
        pop     A
        IRET

alive:
        db      "still at it", 10
align 8
gdt:
        dq      0
        dq      0x00209b0000000000      ; 0x08: 64-bit code
        dq      0x00cf93000000ffff      ; 0x10: flat data
        dq      0x00cf9b000000ffff      ; 0x18: flat 32-bit code
        dq      0x00cffb000000ffff      ; 0x20: the same at CPL 3
        dq      0x00cff3000000ffff      ; 0x28: data at CPL 3
        dq      0x0020fb0000000000      ; 0x30: 64-bit code at CPL 3
        dw      103, task               ; 0x38: the TSS
        db      0, 0x89, 0, 0
        dq      0
gdtr:
        dw      gdtr - gdt - 1
        dd      gdt
idtr:
        dw      256 * GATE_SIZE - 1
        dq      IDT
align 8
ticks:
        dd      0
align 16
task:
        times 104 db 0
        times (512 - ($ - $$) % 512) % 512 db 0
end:
        times 1474560 - ($ - $$) db 0   ; a 1.44 MB floppy disk
