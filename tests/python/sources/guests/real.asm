; SPDX-License-Identifier: BSD-2-Clause
; Boot sector guests in real mode: assemble with -DGUEST=1 ... 7.
        bits 16
        org 0x7c00
%define TRIPLE_FAULT 1
%define KEYBOARD_RESET 2
%define DEBUG_EXIT 3
%define HANG 4
%define HALT 5
%define PRINT 6
%define RESET_CF9 7
        cli
%if GUEST = TRIPLE_FAULT
        lidt [empty]
        int3
%elif GUEST = KEYBOARD_RESET
        mov al, 0xfe
        out 0x64, al
%elif GUEST = DEBUG_EXIT
        mov al, 0x15
        out 0xf4, al
%elif GUEST = HANG
.spin:  inc dword [0x600]
        jmp .spin
%elif GUEST = PRINT
        xor ax, ax
        mov ds, ax
        mov si, text
.next:  lodsb
        test al, al
        jz .done
        out 0xe9, al
        mov dx, 0x3f8
        out dx, al
        jmp .next
.done:  inc dword [0x600]
        jmp .done
text:   db "lamp on", 27, "[31m!", 10, 0
%elif GUEST = RESET_CF9
        mov dx, 0xcf9
        mov al, 6
        out dx, al
%endif
.stop:  hlt
        jmp .stop
empty:  dw 0
        dd 0
        times 510 - ($ - $$) db 0
        dw 0xaa55
