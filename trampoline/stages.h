/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stage table: every lamp that a CPU lights between reset and C code.
 *
 * This is the one source. The C enum, the NASM constants, the Python table,
 * docs/stage-codes.md and the table inside the kernel's ELF are made from it
 * (debug/stages/generate.py, `make generate`).
 *
 *   STAGE(code, NAME, mode, "what has just become true",
 *         "what the next step needs")
 *
 * mode is the CPU mode that the code which emits the stage runs in:
 *   real16    CR0.PE=0
 *   prot16    CR0.PE=1, CS still the real-mode one
 *   prot32    CR0.PE=1, 32-bit code segment, no paging
 *   compat32  EFER.LMA=1, CS.L=0
 *   long64    EFER.LMA=1, CS.L=1
 *
 * The high digit says where the CPU is:
 *   1x  16-bit assembly        6x  64-bit assembly     Cx  the BSP, starting
 *   3x  32-bit assembly        Ax  an AP in C              the other CPUs
 *                              Bx  the BSP, booting    Ex  exceptions, panic
 * 8x and 9x are free for what any CPU does later; 00-0f and Fx stay unused,
 * so that a run of zeros or ones is never read as a stage.
 *
 * An argument, where a stage carries one, is described in its sentence.
 */

/* clang-format off */

/* An AP, from its SIPI to C. */
STAGE(0x10, AP_REAL16, real16,
      "the AP fetched its first instruction in the trampoline page",
      "DS, ES and SS must be loaded from CS: a SIPI sets only CS")
STAGE(0x11, AP_SEGMENTS, real16,
      "DS, ES and SS point at the trampoline page",
      "LGDT needs a GDT below 4 GiB and its linear, relocated address")
STAGE(0x12, AP_GDT, real16,
      "the trampoline's GDT is loaded",
      "CR0.PE must be set, with interrupts off")
STAGE(0x13, AP_PE, prot16,
      "CR0.PE is set; CS still holds the real-mode segment",
      "a far jump to a present 32-bit code segment")
STAGE(0x30, AP_PROT32, prot32,
      "32-bit protected mode was entered and flat data segments are loaded",
      "CR4.PAE must be set before paging")
STAGE(0x31, AP_PAE, prot32,
      "CR4.PAE is set",
      "CR3 must hold the physical address of a PML4 below 4 GiB")
STAGE(0x32, AP_CR3, prot32,
      "CR3 holds the kernel's PML4",
      "EFER.LME must be set, and EFER.NXE if the tables use bit 63")
STAGE(0x33, AP_LME, prot32,
      "EFER.LME is set, and EFER.NXE where the CPU has it",
      "the page that is executing must be identity-mapped when CR0.PG is set")
STAGE(0x34, AP_PG, compat32,
      "paging is on: compatibility mode (EFER.LMA=1, CS.L=0)",
      "a far jump to a code segment with L=1 and D=0")
STAGE(0x60, AP_LONG64, long64,
      "64-bit mode was entered",
      "the CPU must learn its APIC ID from CPUID")
STAGE(0x61, AP_IDENTIFIED, long64,
      "the CPU knows its 32-bit APIC ID",
      "a block with this APIC ID among lcpus[]")
STAGE(0x62, AP_LCPU_FOUND, long64,
      "the CPU found its lcpu block",
      "lcpu.stack must be mapped in the tables that CR3 holds")
STAGE(0x63, AP_STACK, long64,
      "RSP holds the CPU's own stack and a word was written to it",
      "CR0 and CR4 must allow SSE, and XCR0 AVX where CPUID has it")
STAGE(0x64, AP_FPU, long64,
      "FPU and SSE are enabled, AVX and XSAVE where CPUID has them",
      "lcpu.entry must be mapped and executable")
STAGE(0x65, AP_ENTERING_C, long64,
      "the next instruction jumps to lcpu.entry",
      "the entry must be C code that takes the lcpu block in RDI")
STAGE(0x6e, AP_ABANDONED, long64,
      "the CPU arrived after the BSP had given it up, and parks",
      "the BSP must wait longer, or the CPU must arrive earlier")
STAGE(0x6f, AP_UNKNOWN, long64,
      "no lcpu block has this APIC ID: the CPU parks",
      "the MADT must list the CPU, or nothing may wake it")
STAGE(0xa0, AP_C, long64,
      "C code runs on the AP",
      "GS base must point at its per-CPU data")
STAGE(0xa1, AP_GS, long64,
      "GS base points at the AP's per-CPU data",
      "the AP's own GDT, TSS and IDT must be loaded")
STAGE(0xa2, AP_DESCRIPTORS, long64,
      "the AP's own GDT, TSS and IDT are loaded",
      "the local APIC must be mapped and software-enabled")
STAGE(0xa3, AP_APIC, long64,
      "the AP's local APIC is on",
      "the BSP must still be waiting for this CPU")
STAGE(0xa4, AP_ONLINE, long64,
      "the AP is online: the BSP can see it",
      "the BSP must publish how many CPUs meet at the barrier")
STAGE(0xa5, AP_BARRIER, long64,
      "the AP is past the barrier",
      "the BSP must open the scheduler gate")
STAGE(0xa6, AP_SCHEDULER, long64,
      "the AP entered the scheduler",
      "other CPUs' calls and the timer's ticks must reach it")
STAGE(0xa7, AP_INTERRUPTS, long64,
      "the AP takes interrupts: other CPUs may call it, and its timer runs",
      "work, or a reason to halt")

/* Any CPU, at work. */
STAGE(0x80, RING3_ENTERING, long64,
      "the next instructions enter ring 3",
      "user pages, user selectors, RSP0 and the SYSCALL MSRs")
STAGE(0x81, RING3_SYSCALL, long64,
      "SYSCALL came from ring 3 and the kernel is on its own stack",
      "SYSRET with ring 3's RIP, RFLAGS, RSP and GS base")
STAGE(0x82, RING3_BACK, long64,
      "the CPU came back from ring 3 through an interrupt",
      "nothing: the trip is over")

/* The BSP, from the loader to C and on. */
STAGE(0xb0, BSP_PROT32, prot32,
      "the boot loader entered the kernel in 32-bit protected mode",
      "page tables that map the kernel low and high")
STAGE(0xb1, BSP_TABLES, prot32,
      "the boot page tables are built",
      "CR4.PAE must be set before paging")
STAGE(0xb2, BSP_PAE, prot32,
      "CR4.PAE is set",
      "CR3 must hold the physical address of the PML4")
STAGE(0xb3, BSP_CR3, prot32,
      "CR3 holds the boot PML4",
      "EFER.LME must be set")
STAGE(0xb4, BSP_LME, prot32,
      "EFER.LME is set, and EFER.NXE where the CPU has it",
      "the page that is executing must be identity-mapped when CR0.PG is set")
STAGE(0xb5, BSP_PG, compat32,
      "paging is on: compatibility mode (EFER.LMA=1, CS.L=0)",
      "a GDT of our own and a far jump to a segment with L=1 and D=0")
STAGE(0xb6, BSP_LONG64, long64,
      "64-bit mode was entered, still at a low address",
      "the higher half must be mapped")
STAGE(0xb7, BSP_HIGH, long64,
      "the kernel runs at its higher-half address, on the boot stack",
      "a C stack aligned as the ABI asks for")
STAGE(0xb8, BSP_C, long64,
      "kmain() runs",
      "boot information from the loader")
STAGE(0xb9, BSP_OPTIONS, long64,
      "the command line is understood and the trace goes where it says",
      "a GDT, TSS and IDT of our own")
STAGE(0xba, BSP_DESCRIPTORS, long64,
      "the BSP's own GDT, TSS, IDT and GS base are loaded",
      "a memory map from the loader")
STAGE(0xbb, BSP_MEMORY, long64,
      "the memory map is read and frames can be allocated",
      "page tables of the kernel's own")
STAGE(0xbc, BSP_PAGING, long64,
      "the kernel's own page tables are loaded",
      "ACPI tables that can be found and pass their checksums")
STAGE(0xbd, BSP_ACPI, long64,
      "the MADT is read: the argument is the number of usable CPUs",
      "a local APIC")
STAGE(0xbe, BSP_APIC, long64,
      "the BSP's local APIC is on",
      "a clock to measure delays with")
STAGE(0xbf, BSP_TIME, long64,
      "the TSC is calibrated: the argument is its rate in kHz",
      "a free page below 640 KiB for the trampoline")

/* The BSP starts the others. */
STAGE(0xc0, BSP_TRAMPOLINE, long64,
      "the trampoline is copied: the argument is its physical address",
      "its position-dependent words must be relocated")
STAGE(0xc1, BSP_RELOCATED, long64,
      "the copy is relocated and reads back intact",
      "the trampoline page must be identity-mapped for the APs")
STAGE(0xc2, BSP_TABLES_READY, long64,
      "the page tables that the APs load are ready",
      "an INIT for each AP")
STAGE(0xc3, BSP_INIT_SENT, long64,
      "INIT was sent to the APIC ID in the argument",
      "a SIPI with the trampoline's page number")
STAGE(0xc4, BSP_SIPI_SENT, long64,
      "SIPI was sent to the APIC ID in the argument",
      "the AP must reach C before the deadline")
STAGE(0xc5, BSP_AP_SEEN, long64,
      "the AP with the APIC ID in the argument is online",
      "the remaining APs")
STAGE(0xc6, BSP_AP_MISSING, long64,
      "the AP with the APIC ID in the argument did not arrive in time",
      "the machine goes on without it")
STAGE(0xc7, BSP_ALL_ONLINE, long64,
      "every AP arrived or was given up: the argument is the number online",
      "all of them must meet at the barrier")
STAGE(0xc8, BSP_BARRIER, long64,
      "the BSP is past the barrier",
      "the scheduler gate must be opened")
STAGE(0xc9, BSP_SCHEDULER, long64,
      "the scheduler gate is open",
      "the other CPUs' calls and the timer's ticks must reach the BSP")
STAGE(0xca, BSP_INTERRUPTS, long64,
      "the BSP takes interrupts, and its timer has ticked",
      "work, or a reason to halt")
STAGE(0xcf, BSP_EXIT, long64,
      "the kernel ends the machine: the argument is the exit code",
      "an emulator that listens to the exit port")

/* Any CPU, when something went wrong. */
STAGE(0xe0, EXCEPTION, long64,
      "an exception is being reported: the argument is the vector",
      "a console")
STAGE(0xe1, PANIC, long64,
      "the kernel panics on this CPU",
      "the other CPUs must be stopped")
STAGE(0xe2, STOPPED, long64,
      "another CPU's panic stopped this CPU by NMI",
      "nothing: it halts")
STAGE(0xe3, PANIC_NESTED, long64,
      "the panic's report itself failed: an exception or panic inside it",
      "nothing: the machine ends")
STAGE(0xe4, BOOT_ERROR, long64,
      "the kernel can't go on: the argument is the exit code",
      "the message on the console says what to do")
STAGE(0xe5, IPI_UNANSWERED, long64,
      "the CPU with the APIC ID in the argument did not answer an IPI in time",
      "the panic that follows says which and where it stands")

/* clang-format on */
