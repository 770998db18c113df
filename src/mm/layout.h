/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where everything lies.  The one table of addresses: C includes it, the
 * linker script is preprocessed with it, assembler gets it through
 * src/asm_constants.c.
 *
 *   0x0000400000000000  the page of ring 3, while the self-test runs there
 *   0xffff800000000000  direct map: physical memory, read-write, not executable
 *   0xffffffff80000000  the kernel image, at its physical address + this
 *   0xffffffffc0000000  stacks: one STACK_SLOT a CPU, unmapped between stacks
 *   0xffffffffd0000000  threads: one THREAD_SLOT each, the stack at its top
 *   0xffffffffe0000000  device registers, uncached
 *   0xfffffffff0000000  a page that the self-test maps and unmaps
 *
 * Below 640 KiB of physical memory, chosen at boot from what the loader calls
 * free: the trampoline page (default 0x8000) and the trace area after it.
 */
#pragma once

#define USER_BASE    0x0000400000000000
#define DIRECT_MAP   0xffff800000000000
#define KERNEL_BASE  0xffffffff80000000
#define STACKS_BASE  0xffffffffc0000000
#define DEVICE_BASE  0xffffffffe0000000
#define SCRATCH_BASE 0xfffffffff0000000

#define KERNEL_PHYSICAL 0x100000
/* Where it is linked to lie: a PIE at 0, and the loader says where it is. */
#define KERNEL_LINKED (PIE ? 0 : KERNEL_PHYSICAL)
/* The boot page tables map this much, low and at KERNEL_BASE. */
#define BOOT_MAP_SIZE 0x40000000

#define PAGE_SIZE       0x1000
#define LARGE_PAGE_SIZE 0x200000

#define TRAMPOLINE_DEFAULT 0x8000
/* A SIPI's vector is a page number below 1 MiB; A0H-BFH are reserved. */
#define LOW_MEMORY_END 0xa0000
/* Below this the real-mode IVT and the BIOS data area live. */
#define LOW_MEMORY_START 0x1000

/* A CPU's stack: 16 KiB, so aligned; its IST stacks are a page each.  Every
 * stack has an unmapped page below it (src/mm/stacks.c). */
#define STACK_SIZE 0x4000
#define STACK_SLOT 0x10000
/* A thread's, and what is unmapped below it: any overflow by less than half
 * of this is seen (src/sched/thread.c). */
#define THREADS_BASE 0xffffffffd0000000
#define THREAD_SLOT  0x8000
