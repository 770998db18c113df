/* SPDX-License-Identifier: BSD-2-Clause */
/* What the clocks claim of themselves. */
#include "cpu/percpu.h"
#include "lib/console.h"
#include "selftest.h"
#include "smp/call.h"
#include "time/pit.h"
#include "time/timer.h"
#include "time/tsc.h"

#define TICKS          3
#define TICKS_DEADLINE 2000000 /* µs, from the last tick of any CPU */

#define DELAY_US    10000
#define DELAY_TRIES 20
/* One turn of udelay()'s loop and two readings of the PIT. */
#define DELAY_SLACK_US 40

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

/* By the PIT; 0 if that ran out meanwhile. */
static uint64_t measure_delay(void)
{
    pit_start();
    struct reading first = clock_read(pit_read);
    udelay(DELAY_US);
    struct reading last = clock_read(pit_read);
    bool usable = !pit_ran_out() && last.count < first.count;
    pit_stop();
    return usable ? (uint64_t)(first.count - last.count) * 1000000 / PIT_HZ : 0;
}

/* It may be too long where a host takes the CPU away, but not each time, and
 * too short never. */
static bool delay_is_right(void)
{
    uint64_t error = (uint64_t)DELAY_US * CLOCK_ERROR_PPM / 1000000;
    uint64_t us = 0;
    for (int i = 0; i < DELAY_TRIES; i++) {
        us = measure_delay();
        if (us && us < DELAY_US - error)
            break;
        if (us && us <= DELAY_US + error + DELAY_SLACK_US)
            return true;
    }
    console_printf("# udelay(%u) took %lu us by the PIT\n", DELAY_US, us);
    return false;
}

const struct check time_checks[] = {
    {"each CPU's timer ticks", each_timer_ticks},
    {"ticks are not faster than they are named", ticks_are_not_too_fast},
    {"udelay() is right by the PIT, within 0.1 % and a turn of its loop",
     delay_is_right},
    {0},
};
