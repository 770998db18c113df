/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The architecture's bits, MSRs and CPUID leaves that the kernel uses, under
 * the manual's names [SDM 3A "Control Registers", SDM 4].  Assembler gets the
 * same names through src/asm_constants.c.
 */
#pragma once

#define CR0_PE 0x00000001u
#define CR0_MP 0x00000002u
#define CR0_ET 0x00000010u
#define CR0_NE 0x00000020u
#define CR0_WP 0x00010000u
#define CR0_PG 0x80000000u

#define CR4_PAE        0x00000020u
#define CR4_MCE        0x00000040u
#define CR4_PGE        0x00000080u
#define CR4_OSFXSR     0x00000200u
#define CR4_OSXMMEXCPT 0x00000400u
#define CR4_OSXSAVE    0x00040000u

#define XCR0_X87 1u
#define XCR0_SSE 2u
#define XCR0_AVX 4u

#define MSR_APIC_BASE      0x0000001bu
#define MSR_TSC_DEADLINE   0x000006e0u
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_FMASK          0xc0000084u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

#define EFER_SCE 0x00000001u
#define EFER_LME 0x00000100u
#define EFER_LMA 0x00000400u
#define EFER_NXE 0x00000800u

#define APIC_BASE_BSP    0x100u
#define APIC_BASE_X2APIC 0x400u
#define APIC_BASE_ENABLE 0x800u

#define CPUID_FEATURES          1u
#define CPUID_1_ECX_X2APIC      (1u << 21)
#define CPUID_1_ECX_DEADLINE    (1u << 24)
#define CPUID_1_ECX_XSAVE       (1u << 26)
#define CPUID_1_ECX_AVX         (1u << 28)
#define CPUID_1_EDX_MCE         (1u << 7)
#define CPUID_1_EDX_PGE         (1u << 13)
#define CPUID_TOPOLOGY          0xbu
#define CPUID_EXTENDED          0x80000001u
#define CPUID_EXTENDED_EDX_NX   (1u << 20)
#define CPUID_EXTENDED_EDX_LONG (1u << 29)

#define RFLAGS_RESERVED1 0x00002u
#define RFLAGS_TF        0x00100u
#define RFLAGS_IF        0x00200u
#define RFLAGS_DF        0x00400u
#define RFLAGS_NT        0x04000u
#define RFLAGS_AC        0x40000u

/*
 * Descriptors of flat segments, each with its Accessed bit set, and the
 * selectors that they have in the kernel's and in the trampoline's GDT.
 * Only the trampoline's GDT has the 32-bit code segment; in a CPU's own GDT
 * its place is taken by the TSS.
 */
#define DESCRIPTOR_CODE64 0x00af9b000000ffffull
#define DESCRIPTOR_DATA   0x00cf93000000ffffull
#define DESCRIPTOR_CODE32 0x00cf9b000000ffffull

#define SELECTOR_CODE64 0x08
#define SELECTOR_DATA   0x10
#define SELECTOR_CODE32 0x18
#define SELECTOR_TSS    0x18 /* and 0x20: a TSS descriptor has 16 bytes */

/* Ring 3's, in the order that SYSRET wants; with RPL 3. */
#define DESCRIPTOR_USER_DATA   0x00cff3000000ffffull
#define DESCRIPTOR_USER_CODE64 0x00affb000000ffffull
#define SELECTOR_USER_DATA     0x2b
#define SELECTOR_USER_CODE     0x33
