/* SPDX-License-Identifier: BSD-2-Clause */
#include "time/pit.h"

#include "cpu/cpu.h"

#define PIT_CHANNEL2       0x42
#define PIT_COMMAND        0x43
#define PIT_MODE0_CHANNEL2 0xb0 /* interrupt on terminal count, both bytes */
#define PIT_LATCH_CHANNEL2 0x80

#define PORT61         0x61
#define PORT61_GATE2   0x01
#define PORT61_SPEAKER 0x02
#define PORT61_OUT2    0x20

static uint8_t port61;

void pit_start(void)
{
    port61 = inb(PORT61);
    outb(PORT61, (uint8_t)((port61 & ~PORT61_SPEAKER) | PORT61_GATE2));
    outb(PIT_COMMAND, PIT_MODE0_CHANNEL2);
    outb(PIT_CHANNEL2, (uint8_t)PIT_SPAN);
    outb(PIT_CHANNEL2, (uint8_t)(PIT_SPAN >> 8));
}

void pit_stop(void)
{
    outb(PORT61, port61);
}

uint32_t pit_read(void)
{
    outb(PIT_COMMAND, PIT_LATCH_CHANNEL2);
    uint32_t low = inb(PIT_CHANNEL2);
    return low | (uint32_t)inb(PIT_CHANNEL2) << 8;
}

bool pit_ran_out(void)
{
    return inb(PORT61) & PORT61_OUT2;
}
