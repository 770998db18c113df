/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * GDT, TSS and IDT.  Each CPU has a GDT and a TSS of its own: LTR marks the
 * TSS busy, and IST stacks can't be shared.  The IDT is the same for all.
 * [SDM 3A "Segment Descriptors", "64-Bit Task State Segment", "64-Bit IDT"]
 */
#pragma once

#include <stdint.h>

/* IST slots, 1 to 7; 0 in a gate means no switch. */
enum ist { IST_NONE, IST_DOUBLE_FAULT, IST_NMI, IST_MACHINE_CHECK, IST_COUNT };

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_bitmap; /* beyond the limit: no port is open to ring 3 */
} __attribute__((packed));
_Static_assert(sizeof(struct tss) == 104, "fixed by the architecture");

struct descriptor_tables {
    uint64_t gdt[7]; /* null, code, data, the TSS's two halves, ring 3's */
    struct tss tss;
};

/* Fill in the tables of the CPU that calls and load GDTR, the data segments,
 * CS, TR and IDTR.  ist[i] is the stack of IST slot i + 1.  GS keeps its
 * base: its selector is not loaded. */
void descriptors_load(struct descriptor_tables *tables,
                      const uint64_t ist[IST_COUNT - 1]);

/* Fill in the IDT, once, before the first descriptors_load(). */
void idt_init(void);
