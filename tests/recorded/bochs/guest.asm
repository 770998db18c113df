; SPDX-License-Identifier: BSD-2-Clause
; A boot sector that ends in one known way: the guest of the Bochs tests.
;
;   nasm -f bin -D CASE_name guest.asm -o guest.img
;
; CASE_long64    the BSP triple-faults in 64-bit mode: a push to an unmapped page, no IDT
; CASE_real16    the BSP triple-faults in real mode: INT3 with an IDT limit of 0
; CASE_ap32      CPU 1 triple-faults in 32-bit mode: UD2 with an IDT limit of 0
; CASE_ap64      CPU 1 triple-faults in 64-bit mode, as long64
; CASE_halt      the BSP halts with interrupts off
; CASE_spin      the BSP spins, JMP $
; CASE_exit      "Shutdown" to port 0x8900
; CASE_reset     a deliberate reset through port 0xCF9
; CASE_talk      prints a line to port 0xE9 and COM1 without end
; CASE_gp        the BSP: MOV CR0 with PG and LME but without PAE, then a double fault
;
; MODE on entry: real16 at 0000:7c00, as the BIOS leaves it.

bits 16
org 0x7c00

CR0_PE_PG       equ 1 << 31 | 1
CR4_PAE         equ 1 << 5
MSR_EFER        equ 0xc0000080
EFER_LME        equ 1 << 8
ICR             equ 0xfee00300
SVR             equ 0xfee000f0
TABLES          equ 0x1000          ; PML4, PDPT, PD in the three pages from here
AP_PAGE         equ 8               ; the AP starts at 0x8000

start:
        cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7000
        mov     si, greeting
.greet:
        lodsb
        test    al, al
        jz      .greeted
        out     0xe9, al
        jmp     .greet
.greeted:

%ifdef CASE_real16
        lidt    [no_idt]
        int3
%elifdef CASE_halt
        hlt
        jmp     $
%elifdef CASE_spin
        jmp     $
%elifdef CASE_exit
        mov     si, farewell
        mov     dx, 0x8900
.exit:
        lodsb
        test    al, al
        jz      $
        out     dx, al
        jmp     .exit
farewell: db    "Shutdown", 0
%elifdef CASE_reset
        mov     dx, 0xcf9
        mov     al, 6
        out     dx, al
        jmp     $
%elifdef CASE_talk
        mov     dx, 0x3fb           ; COM1's line control: 8 bits; nothing is paced
        mov     al, 3
        out     dx, al
.talk:
        mov     si, greeting
.line:
        lodsb
        test    al, al
        jz      .talk
        out     0xe9, al
        mov     dx, 0x3f8
        out     dx, al
        jmp     .line
%else
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword 0x18:flat32

bits 32
flat32:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 3 * 0x1000 / 4
        rep stosd
        mov     dword [TABLES], TABLES + 0x1003
        mov     dword [TABLES + 0x1000], TABLES + 0x2003
        mov     dword [TABLES + 0x2000], 0x83
%if %isdef(CASE_ap32) || %isdef(CASE_ap64)
        mov     esi, ap_start
        mov     edi, AP_PAGE << 12
        mov     ecx, ap_end - ap_start
        rep movsb
        or      dword [SVR], 0x100
        mov     dword [ICR + 0x10], 1 << 24
        mov     dword [ICR], 0x4500
        mov     ecx, 100000
        loop    $
        mov     dword [ICR], 0x4600 | AP_PAGE
        jmp     $
%else
        call    long_mode
%endif

long_mode:
%ifndef CASE_gp
        mov     eax, CR4_PAE
        mov     cr4, eax
%endif
        mov     eax, TABLES
        mov     cr3, eax
        mov     ecx, MSR_EFER
        xor     edx, edx
        mov     eax, EFER_LME
        wrmsr
        lidt    [no_idt]
        mov     eax, CR0_PE_PG
        mov     cr0, eax
        jmp     8:long64

bits 64
long64:
        mov     rsp, 0xffffffff80000000
        push    rax
        hlt

bits 16
ap_start:
        nop                             ; Bochs never stops on the first instruction
        cli
        xor     ax, ax
        mov     ds, ax
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword 0x18:ap32 - ap_start + (AP_PAGE << 12)
bits 32
ap32:
        mov     ax, 0x10
        mov     ds, ax
        mov     ss, ax
%ifdef CASE_ap64
        mov     eax, long_mode
        jmp     eax
%else
        lidt    [no_idt]
        ud2
%endif
ap_end:

align 8
gdt:
        dq      0
        dq      0x00209b0000000000      ; 0x08: 64-bit code, L=1, Accessed
        dq      0x00cf93000000ffff      ; 0x10: flat data
        dq      0x00cf9b000000ffff      ; 0x18: flat 32-bit code
gdtr:
        dw      gdtr - gdt - 1
        dd      gdt
%endif

no_idt:
        dw      0
        dd      0
        dd      0
greeting:
        db      "hello from port e9", 10, 0

        times 510 - ($ - $$) db 0
        dw      0xaa55
        times 1474560 - ($ - $$) db 0   ; a 1.44 MB floppy disk
