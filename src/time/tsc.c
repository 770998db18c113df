/* SPDX-License-Identifier: BSD-2-Clause */
#include "time/tsc.h"

/* The PIT counts at a rate that has not changed since 1981; its channel 2 is
 * started and read through port 61H, without an interrupt. */
#define PIT_HZ             1193182u
#define PIT_CHANNEL2       0x42
#define PIT_COMMAND        0x43
#define PIT_MODE0_CHANNEL2 0xb0 /* interrupt on terminal count, both bytes */

#define PORT61         0x61
#define PORT61_GATE2   0x01
#define PORT61_SPEAKER 0x02
#define PORT61_OUT2    0x20

#define CALIBRATE_US 10000
/* A port read takes about a microsecond: no PIT answers after so many. */
#define CALIBRATE_POLLS 10000000
/* Where there is no PIT: too slow is safe, it makes every wait longer. */
#define FALLBACK_KHZ 4000000

static uint32_t khz = FALLBACK_KHZ;

uint32_t tsc_calibrate(void)
{
    uint32_t count = (uint32_t)((uint64_t)PIT_HZ * CALIBRATE_US / 1000000);
    uint8_t port61 = inb(PORT61);
    outb(PORT61, (uint8_t)((port61 & ~PORT61_SPEAKER) | PORT61_GATE2));
    outb(PIT_COMMAND, PIT_MODE0_CHANNEL2);
    outb(PIT_CHANNEL2, (uint8_t)count);
    outb(PIT_CHANNEL2, (uint8_t)(count >> 8));
    uint64_t start = rdtsc();
    uint32_t polls = CALIBRATE_POLLS;
    while (!(inb(PORT61) & PORT61_OUT2) && --polls)
        pause();
    uint64_t cycles = rdtsc() - start;
    outb(PORT61, port61);
    if (polls && cycles)
        khz = (uint32_t)(cycles * 1000 / CALIBRATE_US);
    return khz;
}

uint32_t tsc_khz(void)
{
    return khz;
}

uint64_t tsc_cycles(uint64_t us)
{
    return us * khz / 1000;
}

uint64_t tsc_microseconds(uint64_t cycles)
{
    return cycles * 1000 / khz;
}

uint64_t deadline_in(uint64_t us)
{
    return rdtsc() + tsc_cycles(us);
}

/* The last pause comes after the deadline.  Where CPUs share a host thread,
 * all of the time can pass before another one has had its turn; that pause
 * gives it one. */
void udelay(uint64_t us)
{
    uint64_t deadline = deadline_in(us);
    bool passed;
    do {
        passed = deadline_passed(deadline);
        pause();
    } while (!passed);
}
