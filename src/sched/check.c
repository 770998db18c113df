/* SPDX-License-Identifier: BSD-2-Clause */
/* What threads and CPUs do together, on all CPUs at once.  Called outside of
 * threads, on the BSP. */
#include "cpu/percpu.h"
#include "mm/frames.h"
#include "sched/deque.h"
#include "sched/sched.h"
#include "sched/thread.h"
#include "sched/wait.h"
#include "sched/workload.h"
#include "selftest.h"
#include "smp/barrier.h"
#include "smp/spinlock.h"
#include "time/tsc.h"

/* How long a step may take that needs every CPU to have had its turn. */
#define STEP_US 30000000

static unsigned cpus(void)
{
    return lcpus_in(LCPU_STATE_WORKING);
}

/* Start `count` threads and wait for them all. */
static void run_threads(unsigned count, void (*function)(void *))
{
    struct thread *first = NULL;
    for (unsigned i = 0; i < count; i++) {
        /* `wake_at` and `next` are the scheduler's: a list by argument. */
        first = thread_create("check", function, first);
    }
    while (first) {
        struct thread *before = first->argument;
        thread_join(first);
        first = before;
    }
}

/* ------------------------------------------------------------- locks */

#define ROUNDS 64 /* of each thread */

static struct spinlock outer = SPINLOCK("outer"), inner = SPINLOCK("inner");
static struct mutex mutex = MUTEX("check");
static unsigned sum; /* plain: protected by what is tested */

static void count_under_spinlocks(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        spin_lock(&outer);
        spin_lock(&inner);
        sum++;
        spin_unlock(&inner);
        spin_unlock(&outer);
        pause();
    }
}

static bool spinlock_excludes(void)
{
    sum = 0;
    run_threads(cpus(), count_under_spinlocks);
    return sum == cpus() * ROUNDS;
}

static void count_under_mutex(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < ROUNDS / 8; i++) {
        mutex_lock(&mutex);
        unsigned before = sum;
        thread_yield(); /* to one that wants the mutex too */
        sum = before + 1;
        mutex_unlock(&mutex);
    }
}

static bool mutex_excludes_and_sleeps(void)
{
    sum = 0;
    run_threads(cpus() + 1, count_under_mutex);
    return sum == (cpus() + 1) * (ROUNDS / 8);
}

/* ------------------------------------------------------------- meeting */

static struct barrier barrier;
static _Atomic unsigned arrivals, too_early, last_ones;

static void meet(void *argument)
{
    (void)argument;
    for (unsigned round = 1; round <= 4; round++) {
        arrivals++;
        last_ones += barrier_wait(&barrier);
        too_early += arrivals != round * cpus();
        barrier_wait(&barrier);
    }
}

static bool barrier_opens_again_and_again(void)
{
    arrivals = too_early = last_ones = 0;
    barrier_init(&barrier, "check", cpus());
    run_threads(cpus(), meet);
    return !too_early && last_ones == 4;
}

static _Atomic uint64_t seen[(NR_CPUS + 63) / 64];
static _Atomic unsigned seen_count;

/* Hold a CPU until each has a thread. */
static void be_seen(void *argument)
{
    (void)argument;
    uint64_t deadline = deadline_in(STEP_US);
    while (seen_count < cpus() && !deadline_passed(deadline)) {
        uint64_t flags = interrupts_save();
        unsigned cpu = this_cpu()->lcpu->idx;
        uint64_t bit = 1ull << cpu % 64;
        if (!(atomic_fetch_or(&seen[cpu / 64], bit) & bit))
            seen_count++;
        interrupts_restore(flags);
        pause();
    }
}

static bool every_cpu_runs_threads(void)
{
    seen_count = 0;
    for (unsigned i = 0; i < sizeof seen / sizeof *seen; i++)
        seen[i] = 0;
    run_threads(cpus(), be_seen);
    return seen_count == cpus();
}

/* ------------------------------------------------------------- threads */

static _Atomic unsigned ended;

static void come_and_go(void *argument)
{
    (void)argument;
    ended++;
}

/* More than a run queue has room for, where there is memory for them. */
static bool threads_come_and_go(void)
{
    unsigned many = DEQUE_SLOTS + DEQUE_SLOTS / 4;
    unsigned count = frames_available() > 16 * many ? many : 8;
    ended = 0;
    run_threads(count, come_and_go);
    return ended == count;
}

/* Two threads take turns, each asleep until it is its turn. */
static struct wait_queue turns = WAIT_QUEUE("turns");
static unsigned turn;

static void take_turns(void *argument)
{
    unsigned me = argument ? 1 : 0; /* the first of the two has none */
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t flags = spin_lock_irq(&turns.lock);
        while (turn % 2 != me)
            wait_sleep(&turns);
        turn++;
        wait_wake_all(&turns);
        spin_unlock_irq(&turns.lock, flags);
    }
}

static bool no_wake_up_is_lost(void)
{
    turn = 0;
    run_threads(2, take_turns);
    return turn == 2 * ROUNDS;
}

/* ------------------------------------------------------------- time */

#define SLEEPERS 3
#define NAP_US   20000

static _Atomic unsigned woken, early;

static void nap(void *argument)
{
    /* The n-th that was started has n others before it. */
    unsigned length = 1;
    for (struct thread *t = argument; t; t = t->argument)
        length++;
    uint64_t start = rdtsc();
    thread_sleep(length * NAP_US);
    early += tsc_microseconds(rdtsc() - start) < length * NAP_US;
    woken++;
}

static bool sleepers_wake_in_time(void)
{
    woken = early = 0;
    run_threads(SLEEPERS, nap);
    return woken == SLEEPERS && !early;
}

static _Atomic bool started, let_go, gave_up;

static void spin_until_let_go(void *argument)
{
    (void)argument;
    uint64_t deadline = deadline_in(STEP_US);
    started = true;
    while (!let_go && !gave_up)
        gave_up = deadline_passed(deadline);
}

/* Both on this CPU: the thread starts only when we are preempted, and we go
 * on only when it is.  Without a pause: no other CPU is waited for. */
static bool tick_preempts(void)
{
    started = let_go = gave_up = false;
    sched_use(1);
    uint64_t before = sched_counts(0).preemptions;
    uint64_t deadline = deadline_in(STEP_US);
    struct thread *thread = thread_create("check", spin_until_let_go, NULL);
    while (!started && !deadline_passed(deadline))
        ;
    let_go = true;
    bool preempted = started && !gave_up;
    thread_join(thread);
    sched_use(lcpu_count);
    return preempted && sched_counts(0).preemptions >= before + 2;
}

static bool workload_is_right(void)
{
    return workload_run(lcpu_count).right;
}

const struct check sched_checks[] = {
    {"threads start, end and are joined, more than a queue holds",
     threads_come_and_go},
    {"a thread runs on every CPU at once", every_cpu_runs_threads},
    {"no count under two spinlocks is lost", spinlock_excludes},
    {"a barrier opens when all have come, and again",
     barrier_opens_again_and_again},
    {"a mutex excludes while its holder lets others run",
     mutex_excludes_and_sleeps},
    {"threads that wake each other lose no wake-up", no_wake_up_is_lost},
    {"a thread sleeps at least as long as it asks for", sleepers_wake_in_time},
    {"a thread that never yields is preempted", tick_preempts},
    {"ten queens: threads of all CPUs find every solution", workload_is_right},
    {0},
};
