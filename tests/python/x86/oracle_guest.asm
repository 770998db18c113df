; SPDX-License-Identifier: BSD-2-Clause
; A guest that turns on the paging it is told to, loads every segment register, tries each probe
; and stops.  Whoever boots it put page tables, a configuration and probes into its memory first.
;
; 0x300000: u32 CR0, CR3, CR4, EFER; then u64 count; then count probes {u64 address, u64 action}
;           action 0 reads, 1 writes, 2 calls
; 0x380000: one result per probe {u64 error code or -1, u64 CR2}

CONFIG  equ 0x300000
RESULTS equ 0x380000
EFER    equ 0xc0000080
LME     equ 1 << 8

bits 32
org 0x100000

        align 4
header: dd 0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000)
        dd header, 0x100000, end, end, start

start:  cli
        mov esp, stack_top
        lgdt [gdt_pointer]
        jmp 0x08:.code32
.code32:
        mov ax, 0x10
        mov ss, ax
        mov ds, ax
        mov ax, 0x20
        mov es, ax
        mov ax, 0x2b
        mov fs, ax
        mov ax, 0x30
        mov gs, ax
        mov eax, [CONFIG + 8]
        mov cr4, eax
        mov eax, [CONFIG + 4]
        mov cr3, eax
        mov ecx, EFER
        mov eax, [CONFIG + 12]
        xor edx, edx
        wrmsr
        mov eax, [CONFIG]
        mov cr0, eax
        test dword [CONFIG + 12], LME
        jz .narrow
        jmp 0x18:lcpu64
.narrow:
        mov ax, 0x50
        lldt ax
        mov ax, 0x60
        ltr ax
        jmp done

bits 64
lcpu64: mov ax, 0x50
        lldt ax
        mov ax, 0x38
        ltr ax
        lidt [idt_pointer]
        mov rsi, CONFIG + 24
        mov rdi, RESULTS
        mov rbp, [CONFIG + 16]
.next:  test rbp, rbp
        jz done
        mov rbx, [rsi]
        mov qword [rdi], -1
        mov qword [rdi + 8], 0
        lea r15, [rel .after]
        mov r14, rsp
        cmp qword [rsi + 8], 1
        je .write
        ja .call
        mov al, [rbx]
        jmp .after
.write: mov byte [rbx], 0xc3
        jmp .after
.call:  call rbx
.after: mov rsp, r14
        add rsi, 16
        add rdi, 16
        dec rbp
        jmp .next

; #PF and #GP: note the error code and CR2, go on with the next probe.
fault:  mov rax, [rsp]
        mov [rdi], rax
        mov rax, cr2
        mov [rdi + 8], rax
        jmp r15

bits 32
done:   mov al, 'K'
        out 0xe9, al
.stop:  hlt
        jmp .stop

        align 16
gdt:    dq 0
        dq 0x00cf9a000000ffff           ; 08 32-bit code
        dq 0x00cf92000000ffff           ; 10 data
        dq 0x00af9a000000ffff           ; 18 64-bit code
        dq 0x12409034567800ff           ; 20 read-only data, base 0x12345678, bytes
        dq 0x0040f2000000ffff           ; 28 user data
        dq 0x00009e100000ffff           ; 30 conforming readable 16-bit code
        dq 0x8100891122330067, 0xffffffff  ; 38 64-bit TSS at 0xffffffff81112233
        dq 0                            ; 48
        dq 0x0000820055000017, 0        ; 50 LDT, 16 bytes in long mode
        dq 0x0000890066000067           ; 60 32-bit TSS
gdt_end:
gdt_pointer:
        dw gdt_end - gdt - 1
        dd gdt, 0

        align 16
idt:    times 26 dq 0
        dw (fault - $$ + 0x100000) & 0xffff, 0x18, 0x8e00, (fault - $$ + 0x100000) >> 16
        dq 0
        dw (fault - $$ + 0x100000) & 0xffff, 0x18, 0x8e00, (fault - $$ + 0x100000) >> 16
        dq 0
idt_end:
idt_pointer:
        dw idt_end - idt - 1
        dq idt

        align 16
        times 256 dq 0
stack_top:
end:
