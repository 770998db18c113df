/* SPDX-License-Identifier: BSD-2-Clause */
/* What the clocks claim of themselves. */
#include "cpu/percpu.h"
#include "lib/console.h"
#include "selftest.h"
#include "smp/call.h"
#include "time/timer.h"
#include "time/tsc.h"

#define TICKS          3
#define TICKS_DEADLINE 2000000 /* µs, from the last tick of any CPU */

#define DELAY_US    200
#define DELAY_TRIES 1000
/* A turn of its loop: of all CPUs, where they share one host thread. */
#define DELAY_SLACK_US 100

static void start(void *unused)
{
    (void)unused;
    timer_start();
}

static void stop(void *unused)
{
    (void)unused;
    if (this_cpu()->lcpu->idx) /* CPU 0 goes on: it tests */
        timer_stop();
}

/* Wait until the CPU's count is `target`. */
static bool reaches(unsigned cpu, uint64_t target)
{
    uint64_t deadline = deadline_in(TICKS_DEADLINE), seen = timer_ticks(cpu);
    while (timer_ticks(cpu) < target) {
        if (timer_ticks(cpu) != seen) {
            seen = timer_ticks(cpu);
            deadline = deadline_in(TICKS_DEADLINE);
        }
        if (deadline_passed(deadline))
            return false;
        pause();
    }
    return true;
}

static bool each_timer_ticks(void)
{
    static uint64_t before[NR_CPUS];
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        before[cpu] = timer_ticks(cpu);
    smp_call_all(start, NULL);
    bool all = true;
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++)
        if (smp_listens(cpu) && !reaches(cpu, before[cpu] + TICKS)) {
            console_printf("# CPU %u: %lu ticks\n", cpu,
                           timer_ticks(cpu) - before[cpu]);
            all = false;
        }
    smp_call_all(stop, NULL);
    return all;
}

/* Ticks may be late and lost, but never too many. */
static bool ticks_are_not_too_fast(void)
{
    uint64_t first = timer_ticks(0) + 1;
    if (!reaches(0, first))
        return false;
    uint64_t start_at = rdtsc();
    if (!reaches(0, first + TICKS))
        return false;
    uint64_t us = tsc_microseconds(rdtsc() - start_at);
    uint64_t least = (TICKS - 1) * 1000000 / TICK_HZ;
    return us >= least;
}

/* Measured once more. */
static bool rate_is_right(void)
{
    uint32_t measured = tsc_calibration();
    uint64_t error = (uint64_t)tsc_khz() * CLOCK_ERROR_PPM / 1000000 + 1;
    bool right = measured + error >= tsc_khz() && measured <= tsc_khz() + error;
    if (!right)
        console_printf("# %u kHz, and %u kHz before\n", measured, tsc_khz());
    return right;
}

/* A host may make any delay too long, but not each one, and none too short. */
static bool delay_is_right(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < DELAY_TRIES; i++) {
        uint64_t from = rdtsc();
        udelay(DELAY_US);
        uint64_t us = tsc_microseconds(rdtsc() - from);
        if (us < least)
            least = us;
        if (us < DELAY_US || us <= DELAY_US + DELAY_SLACK_US)
            break;
    }
    if (least < DELAY_US || least > DELAY_US + DELAY_SLACK_US)
        console_printf("# udelay(%u) took %lu us\n", DELAY_US, least);
    return least >= DELAY_US && least <= DELAY_US + DELAY_SLACK_US;
}

const struct check time_checks[] = {
    {"each CPU's timer ticks", each_timer_ticks},
    {"ticks are not faster than they are named", ticks_are_not_too_fast},
    {"the TSC's rate is right by the PIT, within 0.1 %", rate_is_right},
    {"udelay() is never too short, and at best too long by a turn of its loop",
     delay_is_right},
    {0},
};
