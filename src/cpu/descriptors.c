/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/descriptors.h"

#include "cpu/cpu.h"
#include "cpu/vectors.h"
#include "lib/string.h"

#define DESCRIPTOR_PRESENT  (1ull << 47)
#define DESCRIPTOR_TYPE_TSS (9ull << 40) /* 64-bit TSS, available */

#define GATE_PRESENT   0x80u
#define GATE_DPL3      0x60u /* ring 3 may use it with INT */
#define GATE_INTERRUPT 0x0eu /* 64-bit interrupt gate: clears IF */

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};
_Static_assert(sizeof(struct gate) == 16, "fixed by the architecture");

struct pseudo_descriptor {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static struct gate idt[VECTORS];

void idt_init(void)
{
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        uint64_t offset = vector_stubs[vector];
        uint8_t ist = vector == VECTOR_DOUBLE_FAULT    ? IST_DOUBLE_FAULT
                      : vector == VECTOR_NMI           ? IST_NMI
                      : vector == VECTOR_MACHINE_CHECK ? IST_MACHINE_CHECK
                                                       : IST_NONE;
        idt[vector] = (struct gate){
            .offset_low = (uint16_t)offset,
            .selector = SELECTOR_CODE64,
            .ist = ist,
            .type = GATE_PRESENT | GATE_INTERRUPT,
            .offset_middle = (uint16_t)(offset >> 16),
            .offset_high = (uint32_t)(offset >> 32),
        };
    }
    idt[VECTOR_RING3].type |= GATE_DPL3;
}

void descriptors_load(struct descriptor_tables *tables,
                      const uint64_t ist[IST_COUNT - 1])
{
    struct tss *tss = &tables->tss;
    memset(tss, 0, sizeof *tss);
    for (int i = 0; i < IST_COUNT - 1; i++)
        tss->ist[i] = ist[i];
    tss->io_bitmap = sizeof *tss;

    uint64_t base = (uint64_t)tss;
    tables->gdt[0] = 0;
    tables->gdt[SELECTOR_CODE64 / 8] = DESCRIPTOR_CODE64;
    tables->gdt[SELECTOR_DATA / 8] = DESCRIPTOR_DATA;
    tables->gdt[SELECTOR_TSS / 8] =
        DESCRIPTOR_PRESENT | DESCRIPTOR_TYPE_TSS | (sizeof *tss - 1) |
        (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    tables->gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
    tables->gdt[SELECTOR_USER_DATA / 8] = DESCRIPTOR_USER_DATA;
    tables->gdt[SELECTOR_USER_CODE / 8] = DESCRIPTOR_USER_CODE64;

    struct pseudo_descriptor gdtr = {sizeof tables->gdt - 1,
                                     (uint64_t)tables->gdt};
    struct pseudo_descriptor idtr = {sizeof idt - 1, (uint64_t)idt};
    __asm__ volatile("lgdt %0\n\t"
                     "mov %2, %%ds\n\t"
                     "mov %2, %%es\n\t"
                     "mov %2, %%ss\n\t"
                     "pushq %3\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "lidt %1\n\t"
                     "ltr %w4"
                     :
                     : "m"(gdtr), "m"(idtr), "r"(SELECTOR_DATA),
                       "i"(SELECTOR_CODE64), "r"(SELECTOR_TSS)
                     : "rax", "memory");

    /* Now it has a gate and a stack; without the bit a machine check shuts
     * the processor down [SDM 3A "Control Registers"]. */
    if (cpuid(CPUID_FEATURES, 0).edx & CPUID_1_EDX_MCE)
        write_cr4(read_cr4() | CR4_MCE);
}
