/* SPDX-License-Identifier: BSD-2-Clause */
#include "time/tsc.h"

#include "time/pit.h"

/* Readings of which the quickest counts. */
#define READINGS 8

/* The PIT's count is right to 1: 168 ppm of 10 ms. */
#define CALIBRATE_COUNTS (PIT_HZ / 100)
/* TSC cycles after which there is no PIT: 100 ms at 10 GHz. */
#define CALIBRATE_LIMIT 1000000000
/* Fewer are not used: both ends right to 1, 250 ppm each. */
#define CALIBRATE_LEAST 4000
/* How often the host may take the CPU away before that. */
#define CALIBRATE_TRIES 10
/* Where there is no PIT: too slow is safe, it makes every wait longer. */
#define FALLBACK_KHZ 4000000

static uint32_t khz = FALLBACK_KHZ;

struct reading clock_read(uint32_t (*read)(void))
{
    struct reading best = {.gap = UINT64_MAX};
    for (int i = 0; i < READINGS; i++) {
        uint64_t before = rdtsc();
        uint32_t count = read();
        uint64_t gap = rdtsc() - before;
        if (gap < best.gap)
            best = (struct reading){before + gap / 2, gap, count};
    }
    return best;
}

/* What passed on both clocks between two readings. */
struct stretch {
    uint64_t cycles;
    uint32_t counts;
};

/*
 * CALIBRATE_COUNTS in one run of the PIT, or what was read of it before the
 * host took the CPU away until it had run out.  The run after that begins
 * with a time slice of the host, of which the first milliseconds are enough.
 */
static struct stretch read_both(void)
{
    struct stretch stretch = {0};
    pit_start();
    struct reading first = clock_read(pit_read);
    while (stretch.counts < CALIBRATE_COUNTS &&
           rdtsc() - first.tsc < CALIBRATE_LIMIT) {
        struct reading last = clock_read(pit_read);
        if (pit_ran_out())
            break;
        if (last.count < first.count)
            stretch = (struct stretch){last.tsc - first.tsc,
                                       first.count - last.count};
    }
    pit_stop();
    return stretch;
}

uint32_t tsc_calibration(void)
{
    struct stretch longest = {0};
    for (int i = 0; i < CALIBRATE_TRIES && longest.counts < CALIBRATE_COUNTS;
         i++) {
        struct stretch stretch = read_both();
        if (stretch.counts > longest.counts)
            longest = stretch;
    }
    if (longest.counts < CALIBRATE_LEAST)
        return 0;
    return (uint32_t)(longest.cycles * PIT_HZ / longest.counts / 1000);
}

uint32_t tsc_calibrate(void)
{
    uint32_t measured = tsc_calibration();
    if (measured)
        khz = measured;
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
