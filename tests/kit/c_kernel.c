/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel that is not lamppost and uses its kit, in C, with c_start.S; for
 * 32 or 64 bits.
 *
 *   STATE   use the kit's lock and counts, shared with c_start.S, and COM1
 *   WIDE    the CPU believes that its APIC ID is 0x12345678
 *   BROKEN  writes to an address that is not mapped, without an IDT
 */
#ifdef WIDE
/* GAS takes a macro for the instruction of the same name. */
__asm__(".macro cpuid\n"
        "movl $11, %eax; movl $1, %ebx; movl $0x12345678, %edx\n"
        ".endm");
#endif
#ifdef STATE
unsigned kit_state[65];
#define LAMPPOST_STATE kit_state
#define LAMPPOST_COM1
#endif
#include "lamppost.h"

#define OWN_STAGE 0x8a
LAMPPOST_NAME(OWN_STAGE, OWN_STAGE_C, "long64", "C runs; (really)", "to end")
LAMPPOST_NAME(0xb0, BSP_PROT32, "prot32", "the loader jumped here", "C")

_Static_assert(LAMPPOST_STATE_SIZE == 65 * sizeof(unsigned), "kit_state");

void kmain(void);
void kmain(void)
{
    LAMP(0xb8);
    LAMP_ARG(0xbd, 0);
    LAMP_ARG(OWN_STAGE, 0x89abcdef);
#ifdef BROKEN
    *(volatile unsigned *)0x40000000 = 1;
#endif
    for (unsigned i = 0; i < 20; i++)
        LAMP_ARG(0x8b, i);
    LAMP(0xc7);
    __asm__ __volatile__("outb %0, $0xf4" : : "a"((uint8_t)0x10));
    for (;;)
        __asm__ __volatile__("hlt");
}
