/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/workload.h"

#include "cpu/percpu.h"
#include "lib/console.h"
#include "sched/sched.h"
#include "sched/thread.h"
#include "time/tsc.h"

#define QUEENS    10
#define SOLUTIONS 724
#define BOARD     ((1u << QUEENS) - 1)

/* The queens in the rows so far, and what they attack in the next. */
struct position {
    unsigned row, split; /* rows above `split` get threads of their own */
    unsigned columns, left, right;
    unsigned solutions; /* out: ways to go on from here */
};

static struct position place(const struct position *p, unsigned column)
{
    return (struct position){
        .row = p->row + 1,
        .split = p->split,
        .columns = p->columns | column,
        .left = (p->left | column) << 1,
        .right = (p->right | column) >> 1,
    };
}

static unsigned count(const struct position *p)
{
    if (p->row == QUEENS)
        return 1;
    unsigned solutions = 0;
    unsigned open = BOARD & ~(p->columns | p->left | p->right);
    for (; open; open &= open - 1) {
        struct position next = place(p, open & -open);
        percpu_count_work();
        solutions += count(&next);
    }
    return solutions;
}

static void solve(void *argument)
{
    struct position *p = argument, next[QUEENS];
    struct thread *threads[QUEENS];
    unsigned started = 0;
    /* Where CPUs share a host thread, it gives the others their turn. */
    pause();
    if (p->row >= p->split) {
        p->solutions = count(p);
        return;
    }
    unsigned open = BOARD & ~(p->columns | p->left | p->right);
    for (; open; open &= open - 1) {
        next[started] = place(p, open & -open);
        percpu_count_work();
        threads[started] = thread_create("queens", solve, &next[started]);
        started++;
    }
    while (started--) {
        thread_join(threads[started]);
        p->solutions += next[started].solutions;
    }
}

/* Enough threads to share: 11 for one row, 83 for two, 531 for three. */
static unsigned rows_with_threads(unsigned cpus)
{
    return cpus <= 2 ? 1 : cpus <= 16 ? 2 : 3;
}

static struct workload totals(uint64_t work[NR_CPUS])
{
    struct workload sum = {0};
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++) {
        struct sched_counts counts = sched_counts(cpu);
        uint64_t done = percpu_of(cpu)->work - work[cpu];
        work[cpu] = percpu_of(cpu)->work;
        sum.items += done;
        sum.most = done > sum.most ? done : sum.most;
        sum.steals += counts.steals;
        sum.switches += counts.switches;
    }
    return sum;
}

struct workload workload_run(unsigned cpus)
{
    static uint64_t work[NR_CPUS];
    struct position board = {.split = rows_with_threads(cpus)};
    sched_use(cpus);
    struct workload before = totals(work);
    uint64_t start = rdtsc();
    thread_join(thread_create("queens", solve, &board));
    uint64_t cycles = rdtsc() - start;
    struct workload after = totals(work);
    sched_use(lcpu_count);
    after.steals -= before.steals;
    after.switches -= before.switches;
    after.cycles = cycles;
    after.right = board.solutions == SOLUTIONS;
    return after;
}

static bool report(unsigned cpus)
{
    struct workload w = workload_run(cpus);
    uint64_t hundredths = w.items * 100 / w.most;
    console_printf("%6u %9lu %9lu %5lu.%02lu %8lu %8lu %9lu%s\n", cpus, w.items,
                   w.most, hundredths / 100, hundredths % 100, w.steals,
                   w.switches, tsc_microseconds(w.cycles),
                   w.right ? "" : "  WRONG RESULT");
    return w.right;
}

void workload_report(unsigned cpus)
{
    workload_run(cpus); /* the first run maps the threads' stacks */
    console_printf("workload: %u ways to place %u queens\n"
                   "  CPUs     items   busiest speed-up   steals switches"
                   "        us\n",
                   SOLUTIONS, QUEENS);
    for (unsigned i = 1; i < cpus; i *= 2)
        report(i);
    report(cpus);
}
