; SPDX-License-Identifier: BSD-2-Clause
; A boot sector at the serial port: the guest of the tests of `lamppost run`.
;
;   nasm -f bin -DGUEST=n serial.asm -o guest.img
;
; GUEST=1  says "ready", echoes each byte in hexadecimal, and ends the machine at "q"
; GUEST=2  writes to port 0xE9 and COM1 without end
; GUEST=3  claims to be a healthy machine: stage frames of four CPUs and terminal escapes; halts
;
; MODE on entry: real16 at 0000:7c00, as the BIOS leaves it.

bits 16
org 0x7c00

COM1            equ 0x3f8
LSR             equ COM1 + 5
LSR_DATA        equ 1
LSR_EMPTY       equ 1 << 5
DEBUG_PORT      equ 0xe9
EXIT_PORT       equ 0xf4

        cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00

%if GUEST = 1
        mov     si, ready
        call    print
.next:
        mov     dx, LSR
.wait:
        in      al, dx
        test    al, LSR_DATA
        jz      .wait
        mov     dx, COM1
        in      al, dx
        mov     bl, al
        shr     al, 4
        call    digit
        mov     al, bl
        and     al, 15
        call    digit
        mov     al, ' '
        call    put
        cmp     bl, 'q'
        jne     .next
        mov     dx, EXIT_PORT
        mov     al, 0x10
        out     dx, al
        jmp     $
%elif GUEST = 2
.flood:
        mov     si, ready
        mov     dx, COM1
        mov     cx, ready.end - ready
        rep outsb
        mov     si, ready
        mov     dx, DEBUG_PORT
        mov     cx, ready.end - ready
        rep outsb
        jmp     .flood
%else
        mov     si, claims
        call    print
        hlt
        jmp     $
%endif

; MODE: real16  IN: ds:si a string that ends with 0  CLOBBERS: ax dx si
print:
        lodsb
        test    al, al
        jz      .end
        out     DEBUG_PORT, al
        call    put
        jmp     print
.end:
        ret

; MODE: real16  IN: al 0 to 15  CLOBBERS: al dx
digit:
        add     al, '0'
        cmp     al, '9'
        jbe     put
        add     al, 'a' - '9' - 1
; MODE: real16  IN: al a byte for COM1  CLOBBERS: dx
put:
        push    ax
        mov     dx, LSR
.full:
        in      al, dx
        test    al, LSR_EMPTY
        jz      .full
        pop     ax
        mov     dx, COM1
        out     dx, al
        ret

ready:
        db      "ready ", 10
.end:
        db      0
claims:
%ifdef CLAIMS
        incbin  CLAIMS
%endif
        db      0

        times 510 - ($ - $$) db 0
        dw      0xaa55
