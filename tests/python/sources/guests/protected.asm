; SPDX-License-Identifier: BSD-2-Clause
; Boot sector guests that leave real mode.  LONG=0: a #UD in 32-bit protected mode, or with
; BEYOND=1 a #GP for a selector beyond the GDT; LONG=1: a #PF at 0xdead0000 in 64-bit mode.  AP=1: CPU 1 does it, started at 0x7000 by an
; INIT and a SIPI, while the BSP halts.  The IDT is empty, so the machine triple-faults.
        bits 16
        org 0x7c00
%ifndef AP
%define AP 0
%endif
%ifndef BEYOND
%define BEYOND 0
%endif
start:  cli
        xor ax, ax
        mov ds, ax
        mov es, ax
%if AP
        mov si, start                   ; the AP runs a copy at 0x7000 that jumps to `path`
        lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:.flat
        bits 32
.flat:  mov ax, 16
        mov ds, ax
        mov byte [0x7000], 0xea         ; jmp 0:path
        mov word [0x7001], path
        mov word [0x7003], 0
        mov dword [0xfee000f0], 0x1ff
        mov dword [0xfee00310], 1 << 24
        mov dword [0xfee00300], 0x4500
        mov ecx, 100000
.wait:  pause
        loop .wait
        mov dword [0xfee00310], 1 << 24
        mov dword [0xfee00300], 0x4607
.stop:  hlt
        jmp .stop
        bits 16
%endif
path:   xor ax, ax
        mov ds, ax
        lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:.protected
        bits 32
.protected:
        mov ax, 16
        mov ds, ax
        mov ss, ax
        mov esp, 0x7000
        lidt [empty]
%if LONG
        mov edi, 0x1000                 ; PML4 0x1000, PDPT 0x2000: the first GiB
        mov dword [edi], 0x2003
        mov dword [0x2000], 0x83
        mov eax, 0x20
        mov cr4, eax
        mov eax, 0x1000
        mov cr3, eax
        mov ecx, 0xc0000080
        mov eax, 0x100
        xor edx, edx
        wrmsr
        mov eax, 0x80000001
        mov cr0, eax
        jmp 24:.long
        bits 64
.long:  mov eax, 0xdead0000
        mov [rax], eax
%elif BEYOND
        mov ax, 32
        mov es, ax
%else
        ud2
%endif
        hlt
        align 8
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdtr:   dw $ - gdt - 1
        dd gdt
empty:  dw 0
        dq 0
        times 510 - ($ - $$) db 0
        dw 0xaa55
