/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which thread a CPU runs.
 *
 * Each CPU has a queue of its own, a work-stealing deque: a thread that
 * becomes runnable goes to the queue of the CPU that made it so.  A thread
 * that stops is followed by the newest of this queue, whose data is still in
 * the cache; the tick and thread_yield() take the oldest, so that none is
 * forgotten.  A CPU whose queue is empty steals the oldest of another's, and
 * halts when all are empty; whoever then makes a thread runnable wakes it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu/vectors.h"

struct spinlock;
struct thread;

/* The queues of all CPUs; on the BSP, before the scheduler gate opens. */
void sched_init(void);

/* The timer's tick, interrupts off. */
void sched_tick(struct trap_frame *frame);
/* Another CPU's smp_wake(), interrupts off: there may be work. */
void sched_ipi(void);

/* The rest with interrupts off. */

/* Stop the thread that calls until sched_wake(); give `lock` back when its
 * context is saved.  It holds no other spinlock. */
void sched_wait(struct spinlock *lock);
/* Let a thread that waits go on: once for each sched_wait(). */
void sched_wake(struct thread *thread);
/* A new thread is runnable. */
void sched_start(struct thread *thread);
/* The end of the thread that calls; as sched_wait(), for ever. */
_Noreturn void sched_end(struct spinlock *lock);
void sched_sleep(uint64_t us);
void sched_yield(void);
/* The first thing that a new thread does. */
void sched_begin(void);

/* From the loop that is not in any thread: run what there is to run until
 * there is nothing; false if there was nothing.  Halts the CPU in that case,
 * until an interrupt. */
void sched_run_or_halt(void);
/* The code outside of threads on this CPU is done for good. */
void sched_main_over(void);

/* CPUs 0 to `cpus` - 1 run threads from now on, the others no new ones.
 * Interrupts on. */
void sched_use(unsigned cpus);

struct sched_counts {
    uint64_t switches;    /* to another thread */
    uint64_t preemptions; /* of those: by the tick */
    uint64_t steals;      /* threads taken from another CPU's queue */
};
/* Of the CPU with this index, since it came up. */
struct sched_counts sched_counts(unsigned cpu);
