; SPDX-License-Identifier: BSD-2-Clause
; A machine that nobody here built: a boot sector that starts its APs and lights
; no lamp, healthy or with one bug.  It needs a floppy drive and nothing else.
;
;   nasm -f bin -D BUG_name guest.asm -o guest.img
;
; (no BUG)          every AP comes to 64-bit code, says so and is idle
; BUG_no_init       SIPIs without INIT
; BUG_no_sipi       INIT without SIPI
; BUG_no_ipi        neither of both
; BUG_one_more      the BSP waits for one CPU more than CPUS
; BUG_filled        the trampoline's page is filled with one byte before the SIPI
; BUG_vector        the SIPI names the page behind the trampoline's
; BUG_firmware      the SIPI's vector is f0: the AP executes the BIOS
; BUG_target        INIT and SIPI go to an APIC ID that no CPU has
; BUG_not_copied    the trampoline is not copied
; BUG_overwritten   its page is cleared when the first AP has come
; BUG_lock          the BSP waits for the APs with the lock held that they need
; BUG_flag          the APs wait for a flag that the BSP sets when they have come
; BUG_halted        the APs halt with interrupts off before they say that they came
; BUG_other_flag    the APs come, and the BSP looks at another counter
; BUG_storm         an exception handler of the APs returns to the instruction
; BUG_interrupts    an interrupt of the APs is raised again before its handler returns, as of a
;                   device whose line stays up
; BUG_level         COM1 asks for more to send by a level-triggered pin, and the handler of the
;                   APs does nothing but acknowledge it
; BUG_zeros         the APs jump to memory that holds zeros
; BUG_gives_up      an exception handler of the APs forgets its frame and halts for good
; BUG_parked        no bug: the APs say that they came, and halt for good
; BUG_tickets       no bug: all CPUs take one ticket lock, again and again
; BUG_ticket_kept   the same, and nobody gives it back
; BUG_death         the APs write to a page that is not mapped, without an IDT
;
; MODE on entry: real16 at 0000:7c00, as the BIOS leaves it.

bits 16
org 0x7c00

%include "boot_sector.inc"

%ifndef CPUS
%define CPUS 2
%endif

CR0_PE          equ 1 << 0
CR0_PG          equ 1 << 31
CR4_PAE         equ 1 << 5
MSR_EFER        equ 0xc0000080
EFER_LME        equ 1 << 8
APIC            equ 0xfee00000
APIC_ID         equ APIC + 0x20
EOI             equ APIC + 0xb0
SVR             equ APIC + 0xf0
ICR             equ APIC + 0x300
ICR_HIGH        equ APIC + 0x310
SVR_ENABLE      equ 1 << 8
INIT            equ 0x4500
SIPI            equ 0x4600
IO_APIC         equ 0xfec00000      ; its index register
IO_APIC_DATA    equ IO_APIC + 0x10
COM1_PIN        equ 4
ENTRY_OF_IT     equ 0x10 + 2 * COM1_PIN
LEVEL           equ 1 << 15
COM1            equ 0x3f8
COM1_IER        equ COM1 + 1
COM1_MCR        equ COM1 + 4
TO_SELF         equ 1 << 18
VECTOR_OF_IT    equ 0x40
TABLES          equ 0x1000          ; PML4, PDPT, four PDs from here
PAGE            equ 9               ; where the APs start: 0x9000
STACK           equ 0x1000          ; the BSP's, downwards
STACKS          equ 0x20000         ; 4 KiB for each APIC ID
NOWHERE         equ 0x100000000     ; the first address that is not mapped
EMPTY           equ 0x400000        ; RAM that nobody has written to
DELAY           equ 2000000         ; turns of a loop: some milliseconds

%ifdef BUG_tickets
%define TICKETS
%elifdef BUG_ticket_kept
%define TICKETS
%endif

%ifdef BUG_vector
VECTOR          equ PAGE + 1
%elifdef BUG_firmware
VECTOR          equ 0xf0
%else
VECTOR          equ PAGE
%endif

        LOAD_THE_REST
        TO_PROTECTED bsp32

bits 32
bsp32:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        call    tables
        call    to_long
        jmp     8:bsp64

; MODE: prot32  CLOBBERS: eax ecx edi  maps the first 4 GiB to itself
tables:
        mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 6 * 0x1000 / 4
        rep stosd
        mov     dword [TABLES], TABLES + 0x1003
        mov     edi, TABLES + 0x1000
        mov     eax, TABLES + 0x2003
        mov     ecx, 4
.directory:
        mov     [edi], eax
        add     edi, 8
        add     eax, 0x1000
        loop    .directory
        mov     edi, TABLES + 0x2000
        mov     eax, 0x83           ; 2 MiB pages
        mov     ecx, 4 * 512
.page:
        mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        loop    .page
        ret

; MODE: prot32  CLOBBERS: eax ecx edx  to compatibility mode
to_long:
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
        ret

        times 510 - ($ - $$) db 0
        dw      0xaa55
second:

bits 64
bsp64:
        mov     esp, STACK
%ifndef BUG_not_copied
        mov     esi, trampoline
        mov     edi, PAGE << 12
        mov     ecx, trampoline.end - trampoline
        rep movsb
%endif
%ifdef BUG_filled
        mov     al, 0x41
        mov     edi, PAGE << 12
        mov     ecx, 4096
        rep stosb
%endif
        mov     eax, SVR
        or      dword [rax], SVR_ENABLE
%ifdef BUG_lock
        call    acquire
%endif
        mov     ebx, 1              ; the APIC ID to start
.start:
        mov     eax, ebx
%ifdef BUG_target
        add     eax, 64
%endif
        shl     eax, 24
        mov     edi, ICR_HIGH
        mov     [rdi], eax
        mov     edi, ICR
%ifdef BUG_no_ipi
        jmp     .wait
%endif
%ifndef BUG_no_init
        mov     dword [rdi], INIT
        call    delay
%endif
%ifndef BUG_no_sipi
        mov     dword [rdi], SIPI | VECTOR
%endif
.wait:                              ; until as many have come as were started
        pause
%ifdef BUG_other_flag
        cmp     [arrived], ebx
%else
        cmp     [online], ebx
%endif
        jb      .wait
%ifdef BUG_overwritten
        xor     eax, eax
        mov     edi, PAGE << 12
        mov     ecx, 4096
        rep stosb
%endif
        inc     ebx
%ifdef BUG_one_more
        cmp     ebx, CPUS + 1
%else
        cmp     ebx, CPUS
%endif
        jb      .start
        mov     dword [go], 1
        mov     dword [lock_word], 0
        mov     esi, done
.print:
        lodsb
        test    al, al
        jz      .idle
        out     0xe9, al
        jmp     .print
.idle:
%ifdef TICKETS
        jmp     tickets
%endif
        cli
        mov     al, 0xff            ; no interrupt of the PIC's
        out     0x21, al
        out     0xa1, al
        sti
        hlt
        jmp     .idle

; MODE: long64  CLOBBERS: ecx
delay:
        mov     ecx, DELAY
.turn:
        dec     ecx
        jnz     .turn
        ret

; MODE: long64
acquire:
        lock bts dword [lock_word], 0
        jc      .held
        ret
.held:
        pause
        test    dword [lock_word], 1
        jnz     .held
        jmp     acquire

; GATE vector, handler: one gate in the IDT of the APs, which is loaded.  CLOBBERS: eax edi
%macro GATE 2
        mov     edi, idt + %1 * 16
        mov     eax, %2
        mov     [rdi], ax
        mov     word [rdi + 2], 8
        mov     word [rdi + 4], 0x8e00
        lidt    [idtr]
%endmacro

; MODE: long64  the APs' first 64-bit code
ap64:
        mov     eax, APIC_ID
        mov     eax, [rax]
        shr     eax, 24
        mov     ebx, eax
        shl     eax, 12
        lea     rsp, [rax + STACKS]
        mov     eax, SVR
        or      dword [rax], SVR_ENABLE
%ifdef BUG_lock
        call    acquire
        mov     dword [lock_word], 0
%elifdef BUG_flag
.await:
        pause
        mov     eax, [go]
        test    eax, eax
        jz      .await
%elifdef BUG_halted
        cli
        hlt
%elifdef BUG_storm
        GATE    6, returns          ; #UD
        ud2
%elifdef BUG_interrupts
        GATE    VECTOR_OF_IT, raises_again
        mov     eax, ICR
        mov     dword [rax], TO_SELF | VECTOR_OF_IT
        sti
        nop
%elifdef BUG_level
        GATE    VECTOR_OF_IT, acknowledges
        shl     ebx, 24             ; the destination: this CPU
        mov     eax, IO_APIC
        mov     ecx, IO_APIC_DATA
        mov     dword [rax], ENTRY_OF_IT + 1
        mov     [rcx], ebx
        mov     dword [rax], ENTRY_OF_IT
        mov     dword [rcx], LEVEL | VECTOR_OF_IT
        mov     dx, COM1_MCR
        mov     al, 0x0b            ; OUT2: interrupts pass
        out     dx, al
        mov     dx, COM1_IER
        mov     al, 2               ; the transmitter is empty
        out     dx, al
%elifdef BUG_zeros
        mov     eax, EMPTY
        jmp     rax
%elifdef BUG_parked
        lock inc dword [online]
        jmp     halt_for_good
%elifdef BUG_gives_up
        GATE    13, gives_up        ; #GP
        lock inc dword [online]
        mov     eax, 0x70
        mov     ds, eax
%elifdef BUG_death
        lidt    [no_idt]
        mov     rax, NOWHERE
        mov     [rax], eax
%endif
        lock inc dword [online]
%ifdef TICKETS
        jmp     tickets
%endif
.idle:
        sti
        hlt
        jmp     .idle

; MODE: long64  does not return
tickets:
        mov     eax, 1
        lock xadd [ticket], eax
.turn:
        pause
        cmp     [served], eax
        jne     .turn
%ifndef BUG_ticket_kept
        inc     dword [served]
%endif
        jmp     tickets

returns:
        iretq

gives_up:
        lea     rsp, [rbx + STACKS]
        xor     ebx, ebx
; MODE: long64
halt_for_good:
        cli
        hlt
        jmp     halt_for_good

; MODE: long64  an interrupt handler  CLOBBERS: nothing
acknowledges:
        push    rax
        mov     eax, EOI
        mov     dword [rax], 0
        pop     rax
        iretq

; MODE: long64  an interrupt handler  CLOBBERS: nothing
raises_again:
        push    rax
        mov     eax, EOI
        mov     dword [rax], 0
        mov     eax, ICR
        mov     dword [rax], TO_SELF | VECTOR_OF_IT
        pop     rax
        iretq

bits 16
; MODE: real16 at PAGE:0
trampoline:
        cli
        xor     ax, ax
        mov     ds, ax
        lgdt    [gdtr]
        mov     eax, cr0
        and     eax, 0x9fffffff     ; caches on
        or      al, CR0_PE
        mov     cr0, eax
        jmp     dword 0x18:.protected - trampoline + (PAGE << 12)
bits 32
.protected:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, (PAGE << 12) + 0x1000
        mov     eax, to_long
        call    eax
        jmp     8:ap64
.end:

align 8
gdt:
        dq      0
        dq      0x00209b0000000000      ; 0x08: 64-bit code
        dq      0x00cf93000000ffff      ; 0x10: flat data
        dq      0x00cf9b000000ffff      ; 0x18: flat 32-bit code
gdtr:
        dw      gdtr - gdt - 1
        dd      gdt
no_idt:
        dw      0
        dq      0
idtr:
        dw      256 * 16 - 1
        dq      idt
done:
        db      "all CPUs are up", 10, 0
align 64
online:
        dd      0
align 64
arrived:
        dd      0
align 64
go:
        dd      0
align 64
lock_word:
        dd      0
align 64
ticket:
        dd      0
served:
        dd      0
        times (512 - ($ - $$) % 512) % 512 db 0
end:
idt             equ 0x18000
        times 1474560 - ($ - $$) db 0   ; a 1.44 MB floppy disk
