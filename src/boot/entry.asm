; SPDX-License-Identifier: BSD-2-Clause
;
; Where a boot loader enters the kernel, and the BSP's way from 32-bit
; protected mode to kmain() in 64-bit mode.
;
; Section .boot is linked at its physical address and runs there, or as far
; from there as the loader put the whole kernel (make PIE=1); the rest of the
; kernel is linked KERNEL_BASE higher.  So nothing here may name an address:
; 32-bit code reaches its data from EBP, 64-bit code from RIP.

%include "constants.inc"
%include "stages.inc"

%define STAGE_RETURN32(label) AT(label)
%define EMIT32 emit32
%define EMIT64 emit64
%include "stage.inc"
%include "cpuid.inc"

COM1_LSR_TEMT       equ 0x40    ; all was sent

MULTIBOOT2_MAGIC    equ 0xe85250d6
MULTIBOOT2_I386     equ 0

extern kernel_start, kernel_relocations, kernel_relocations_end
extern boot_stack_top, kmain

; What follows is one section, so that the distances in it are known here.
%define AT(label) ebp + (label) - boot_base

; STORE_ADDRESS place, address: both in this section.  CLOBBERS EAX
%macro STORE_ADDRESS 2
    lea eax, [AT(%2)]
    mov [AT(%1)], eax
%endmacro

section .boot progbits alloc exec write align=4096

; The header of Multiboot 1 stands in src/kernel.ld.

multiboot2:
    dd MULTIBOOT2_MAGIC
    dd MULTIBOOT2_I386
    dd multiboot2_end - multiboot2
    dd -(MULTIBOOT2_MAGIC + MULTIBOOT2_I386 + (multiboot2_end - multiboot2))
%if PIE
    dw 10, 0                    ; relocatable: anywhere that the boot page
    dd 24                       ; tables map [Multiboot2 2.0 "3.1.12"]
    dd KERNEL_PHYSICAL, BOOT_MAP_SIZE - 1, PAGE_SIZE
    dd 1                        ; as low as possible
%endif
    dw 0, 0                     ; the end tag
    dd 8
multiboot2_end:

    align 16, db 0
boot_gdt:
    dq 0
    dq DESCRIPTOR_CODE64
    dq DESCRIPTOR_DATA
.end:
boot_gdt_pointer:
    dw boot_gdt.end - boot_gdt - 1
.base:
    dd 0
boot_far64:
    dd 0
    dw SELECTOR_CODE64

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
    dd 0                        ; next
    dd TRACE_RECORD_SIZE
    dq 0                        ; records
    dd 0                        ; end
    times 3 dd 0
boot_base:
boot_trace_record:              ; struct trace_record
    dd 0xffffffff               ; apic_id
    dd 0                        ; count
    dq 0                        ; entries
    dd TRACE_BSP_ENTRIES
    times TRACE_RECORD_SIZE - 20 - 8 db 0
    dd 0                        ; control
    dd 1                        ; owner: slot 0
%else
boot_base:
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

align PAGE_SIZE, db 0
global boot_pml4
boot_pml4:      times PAGE_SIZE db 0
boot_pdpt_low:  times PAGE_SIZE db 0
boot_pdpt_high: times PAGE_SIZE db 0
boot_pd:        times PAGE_SIZE db 0
%if TRACE
global boot_trace_entries
boot_trace_entries: times TRACE_BSP_ENTRIES << TRACE_ENTRY_SHIFT db 0
%endif

PAGE_PRESENT_WRITE  equ 3
PAGE_LARGE          equ 1 << 7
PAGE_ENTRIES        equ 512

; The word that lends its place for the one call that tells 32-bit code where
; it runs; the loader's stack is not relied upon, and what lies there is put
; back.
BORROWED_WORD       equ 0x7bfc

bits 32
align 16

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
    mov ecx, [BORROWED_WORD]
    mov esp, BORROWED_WORD + 4
    call .here
.here:
    pop ebp
    mov [BORROWED_WORD], ecx
    add ebp, boot_base - .here
    mov [AT(boot_magic)], eax
    mov [AT(boot_info)], ebx

    lea esi, [AT(com1_setup)]
    lea ecx, [AT(com1_setup.end)]
.com1:
    lodsw
    movzx edx, al
    add edx, COM1_DATA
    mov al, ah
    out dx, al
    cmp esi, ecx
    jb .com1

%if TRACE
    STORE_ADDRESS boot_trace_control + TRACE_CONTROL_RECORDS, boot_trace_record
    STORE_ADDRESS boot_trace_record + TRACE_RECORD_CONTROL, boot_trace_control
    STORE_ADDRESS boot_trace_record + TRACE_RECORD_ENTRIES, boot_trace_entries
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
    STORE_ADDRESS boot_pml4, boot_pdpt_low + PAGE_PRESENT_WRITE
    STORE_ADDRESS boot_pml4 + 8 * 511, boot_pdpt_high + PAGE_PRESENT_WRITE
    STORE_ADDRESS boot_pdpt_low, boot_pd + PAGE_PRESENT_WRITE
    STORE_ADDRESS boot_pdpt_high + 8 * 510, boot_pd + PAGE_PRESENT_WRITE
    mov eax, PAGE_PRESENT_WRITE | PAGE_LARGE
    xor ecx, ecx
.entry:
    mov [AT(boot_pd) + ecx * 8], eax
    add eax, LARGE_PAGE_SIZE
    inc ecx
    cmp ecx, PAGE_ENTRIES
    jb .entry
    STAGE BSP_TABLES

    mov eax, CR4_PAE
    mov cr4, eax
    STAGE BSP_PAE

    lea eax, [AT(boot_pml4)]
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

    STORE_ADDRESS boot_gdt_pointer.base, boot_gdt
    lgdt [AT(boot_gdt_pointer)]
    STORE_ADDRESS boot_far64, boot_start64
    jmp far [AT(boot_far64)]

; Say on port 0xE9 and COM1 why the kernel can't run here, and end the machine
; as machine_exit() in src/lib/exit.c does.
.refuse:
    lea esi, [AT(no_long_mode)]
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
    lea esi, [AT(bochs_shutdown)]
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
    lea rax, [rel boot_start64_high]
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
    lea rsp, [rel boot_stack_top]
    STAGE BSP_HIGH
%if PIE
    ; Every relocation is of one kind, an address that moves with the kernel
    ; (the build checks it).  RSI to RDI: words that are even name the place of
    ; one, those that are odd say by bit which of the 63 places after the last
    ; word's are others [gABI "Relative Relocation Table"].
    lea rdx, [rel kernel_start]
    mov rax, KERNEL_BASE + KERNEL_LINKED
    sub rdx, rax                ; how far from where it was linked
    lea rsi, [rel kernel_relocations]
    lea rdi, [rel kernel_relocations_end]
.word:
    cmp rsi, rdi
    jae .relocated
    lodsq
    shr rax, 1
    jc .bits
    lea rcx, [rax * 2 + rdx]
    add [rcx], rdx
    add rcx, 8
    jmp .word
.bits:
    mov r8, rcx
    add rcx, 63 * 8
.bit:
    shr rax, 1
    jnc .unmarked
    add [r8], rdx
.unmarked:
    add r8, 8
    test rax, rax
    jnz .bit
    jmp .word
.relocated:
%endif
    ENABLE_FPU
    mov edi, [rel boot_magic]
    mov esi, [rel boot_info]
    xor ebp, ebp                ; backtraces end here
    push 0
    jmp kmain
.end:

    EMITTER 64
