; SPDX-License-Identifier: BSD-2-Clause
;
; Where a boot loader enters the kernel, and the BSP's way from 32-bit
; protected mode to kmain() in 64-bit mode.
;
; The .boot sections are linked at their physical addresses and run there; the
; rest of the kernel is linked KERNEL_BASE higher.

%include "constants.inc"
%include "stages.inc"

%define STAGE_RETURN32(label) label
%define EMIT32 emit32
%define EMIT64 emit64
%include "stage.inc"
%include "cpuid.inc"

COM1_LSR_TEMT       equ 0x40    ; all was sent

MULTIBOOT1_MAGIC    equ 0x1badb002
MULTIBOOT1_ALIGN    equ 1 << 0
MULTIBOOT1_MEMORY   equ 1 << 1
MULTIBOOT1_ADDRESS  equ 1 << 16
MULTIBOOT2_MAGIC    equ 0xe85250d6
MULTIBOOT2_I386     equ 0

extern kernel_load_end, kernel_end
extern boot_stack_top, kmain, trace_bsp_adopt

section .boot.header progbits alloc noexec nowrite align=8

; The address fields let `qemu -kernel` load this ELF64: it refuses one that
; it would have to load by its program headers [Multiboot 0.6.96 "3.1.3"].
multiboot1:
    dd MULTIBOOT1_MAGIC
    dd MULTIBOOT1_FLAGS
    dd -(MULTIBOOT1_MAGIC + MULTIBOOT1_FLAGS)
    dd multiboot1
    dd KERNEL_PHYSICAL
    dd kernel_load_end - KERNEL_BASE
    dd kernel_end - KERNEL_BASE
    dd boot_start32
MULTIBOOT1_FLAGS equ MULTIBOOT1_ALIGN | MULTIBOOT1_MEMORY | MULTIBOOT1_ADDRESS

    align 8, db 0
multiboot2:
    dd MULTIBOOT2_MAGIC
    dd MULTIBOOT2_I386
    dd multiboot2_end - multiboot2
    dd -(MULTIBOOT2_MAGIC + MULTIBOOT2_I386 + (multiboot2_end - multiboot2))
    dw 0, 0                     ; the end tag
    dd 8
multiboot2_end:

section .boot.data progbits alloc noexec write align=16

boot_gdt:
    dq 0
    dq DESCRIPTOR_CODE64
    dq DESCRIPTOR_DATA
.end:
boot_gdt_pointer:
    dw boot_gdt.end - boot_gdt - 1
    dd boot_gdt

boot_magic:     dd 0
boot_info:      dd 0

%if TRACE
; Until the command line is read the BSP's stages go to all three sinks.
; src/trace/trace.c moves the control block to low memory later.
global boot_trace_control, boot_trace_record
    align 64, db 0
boot_trace_control:             ; struct trace_control
    db "LAMPTRC1"
    dd 0                        ; lock
    dd TRACE_SINKS_ALL
    dq 0xffffffff               ; steal_after: nobody else is there
    dd 0                        ; steals
    dd 1                        ; slots
    dd 1                        ; claimed
    dd TRACE_RECORD_SIZE
    dq boot_trace_record
    dq 0, 0
boot_trace_record:              ; struct trace_record
    dd 0xffffffff               ; apic_id
    dd 0                        ; count
    dq boot_trace_entries
    dd TRACE_BSP_ENTRIES
    times TRACE_RECORD_SIZE - 20 - 8 db 0
    dd boot_trace_control
    dd 1                        ; owner: slot 0
%endif

; COM1 at 115 200 baud, eight bits, FIFOs on: port offset, value.
com1_setup:
    db 1, 0x00                  ; no interrupts
    db 3, 0x80                  ; divisor latch
    db 0, 0x01                  ; 115 200 / 1
    db 1, 0x00
    db 3, 0x03                  ; 8 bits, no parity, one stop bit
    db 2, 0xc7                  ; FIFOs on and cleared
    db 4, 0x03                  ; DTR, RTS
.end:

no_long_mode:
    db "lamppost: this CPU has no 64-bit mode (CPUID 80000001H EDX bit 29 is "
    db "0); use one that has, such as qemu-system-x86_64 -cpu qemu64", 10, 0

bochs_shutdown:
    db "Shutdown"
.end:

section .boot.bss nobits alloc noexec write align=4096

alignb PAGE_SIZE
global boot_pml4
boot_pml4:      resb PAGE_SIZE
boot_pdpt_low:  resb PAGE_SIZE
boot_pdpt_high: resb PAGE_SIZE
boot_pd:        resb PAGE_SIZE
%if TRACE
global boot_trace_entries
boot_trace_entries: resb TRACE_BSP_ENTRIES << TRACE_ENTRY_SHIFT
%endif

PAGE_PRESENT_WRITE  equ 3
PAGE_LARGE          equ 1 << 7
PAGE_ENTRIES        equ 512

bits 32
section .boot.text progbits alloc exec nowrite align=16

; boot_start32: the entry point.
;
; MODE       32-bit protected, paging off, A20 open
;            [Multiboot 0.6.96 "3.2", Multiboot2 2.0 "3.3"]
; IN         EAX = the loader's magic, EBX = its information structure; the
;            GDT and the stack are the loader's and are not relied upon
; OUT        kmain(magic, info) at its higher-half address, in 64-bit mode
; CLOBBERS   everything
; STACK      none before the boot stack is loaded in boot_start64_high
; INTERRUPTS off
; STAGES     BSP_PROT32 BSP_TABLES BSP_PAE BSP_CR3 BSP_LME BSP_PG
;            BSP_LONG64 BSP_HIGH
global boot_start32:function (boot_start32.end - boot_start32)
boot_start32:
    cli
    cld
    mov [boot_magic], eax
    mov [boot_info], ebx

    mov esi, com1_setup
.com1:
    lodsw
    movzx edx, al
    add edx, COM1_DATA
    mov al, ah
    out dx, al
    cmp esi, com1_setup.end
    jb .com1

%if TRACE
    mov ebp, boot_trace_record
    TRACE_IDENTIFY
%endif
    STAGE BSP_PROT32

    mov eax, CPUID_EXTENDED & 0xffff0000
    cpuid
    cmp eax, CPUID_EXTENDED
    jb .refuse
    mov eax, CPUID_EXTENDED
    cpuid
    test edx, CPUID_EXTENDED_EDX_LONG
    jz .refuse
    mov ebx, EFER_LME
    test edx, CPUID_EXTENDED_EDX_NX
    jz .efer_chosen
    or ebx, EFER_NXE
.efer_chosen:

    ; One GiB, at 0 and at KERNEL_BASE, in pages of 2 MiB.
    mov dword [boot_pml4], boot_pdpt_low + PAGE_PRESENT_WRITE
    mov dword [boot_pml4 + 8 * 511], boot_pdpt_high + PAGE_PRESENT_WRITE
    mov dword [boot_pdpt_low], boot_pd + PAGE_PRESENT_WRITE
    mov dword [boot_pdpt_high + 8 * 510], boot_pd + PAGE_PRESENT_WRITE
    mov eax, PAGE_PRESENT_WRITE | PAGE_LARGE
    xor ecx, ecx
.entry:
    mov [boot_pd + ecx * 8], eax
    add eax, LARGE_PAGE_SIZE
    inc ecx
    cmp ecx, PAGE_ENTRIES
    jb .entry
    STAGE BSP_TABLES

    mov eax, CR4_PAE
    mov cr4, eax
    STAGE BSP_PAE

    mov eax, boot_pml4
    mov cr3, eax
    STAGE BSP_CR3

    mov ecx, MSR_EFER
    mov eax, ebx
    xor edx, edx
    wrmsr
    STAGE BSP_LME

    mov eax, CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG
    mov cr0, eax
    ; now: PE=1 PAE=1 LME=1 LMA=1 PG=1 CS.L=0 -> compatibility mode
    STAGE BSP_PG

    lgdt [boot_gdt_pointer]
    jmp SELECTOR_CODE64:boot_start64

; Say on port 0xE9 and COM1 why the kernel can't run here, and end the machine
; as machine_exit() in src/lib/exit.c does.
.refuse:
    mov esi, no_long_mode
.character:
    mov dx, COM1_LSR            ; the UART holds few bytes, and the machine's
    mov ecx, TRACE_COM1_POLLS   ; end must not cut off the last
.transmitting:
    in al, dx
    test al, COM1_LSR_TEMT
    loopz .transmitting
    lodsb
    test al, al
    jz .end_machine
    out TRACE_PORT_E9, al
    mov dx, COM1_DATA
    out dx, al
    jmp .character
.end_machine:
    mov al, EXIT_NO_LONG_MODE
    out ISA_DEBUG_EXIT, al
    mov dx, BOCHS_SHUTDOWN
    mov esi, bochs_shutdown
    mov ecx, bochs_shutdown.end - bochs_shutdown
    rep outsb
.halt:
    hlt
    jmp .halt
.end:

    EMITTER 32

bits 64

; boot_start64: 64-bit mode, still at a low address.
; MODE 64-bit   IN EBP = trace record   OUT boot_start64_high
; STACK none    INTERRUPTS off          STAGES BSP_LONG64
global boot_start64:function (boot_start64.end - boot_start64)
boot_start64:
    mov ebp, ebp                ; the upper half is undefined after the switch
    mov eax, SELECTOR_DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    ; now: PE=1 PAE=1 LME=1 LMA=1 PG=1 CS.L=1 -> 64-bit mode
    STAGE BSP_LONG64
    mov rax, boot_start64_high
    jmp rax
.end:

    EMITTER 64

section .text progbits alloc exec nowrite align=16

%define EMIT64 emit64_high

; boot_start64_high: the kernel at its own address.
; MODE 64-bit   IN RBP = trace record   OUT kmain(magic, info)
; STACK the boot stack                  INTERRUPTS off   STAGES BSP_HIGH
global boot_start64_high:function (boot_start64_high.end - boot_start64_high)
boot_start64_high:
    mov rsp, boot_stack_top
    STAGE BSP_HIGH
    ENABLE_FPU
    mov edi, [boot_magic]
    mov esi, [boot_info]
    xor ebp, ebp                ; backtraces end here
    push 0
    jmp kmain
.end:

    EMITTER 64
