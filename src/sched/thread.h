/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel threads.
 *
 * A thread runs on any CPU, with interrupts on, and is preempted by the
 * timer unless it holds a spinlock.  Kernel code uses no FPU or SSE register
 * (-mgeneral-regs-only), so a thread has none to save.
 *
 * struct thread lies at the top of its stack; below the stack is an unmapped
 * page.  Every thread must be joined once: then both are used again.
 *
 * The code that a CPU runs outside of any thread (kmain(), the idle loop) is
 * a thread too, bound to its CPU: while it waits, the CPU runs others.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sched/wait.h"

#define THREADS_MAX 4096 /* at a time */

enum thread_state {
    THREAD_FREE,     /* nobody has this place */
    THREAD_RUNNABLE, /* it runs, or is in a run queue */
    THREAD_SLEEPING, /* until a time */
    THREAD_WAITING,  /* until another thread wakes it */
    THREAD_ENDED,
};

struct thread {
    uint64_t rsp; /* while it does not run; src/sched/switch.asm */
    _Atomic enum thread_state state;
    unsigned id; /* 0: the code outside of threads, bound to its CPU */
    const char *name;
    struct thread *next; /* in the one queue that it is in */
    uint64_t wake_at;    /* TSC; while it sleeps */
    /* What it waits for, for reports: this queue, and if it is one's this
     * mutex, or the end of this thread. */
    struct wait_queue *waits_in;
    struct mutex *wants;
    struct thread *joins;
    struct wait_queue ended; /* who joins it waits there */
    void (*function)(void *argument);
    void *argument;
} __attribute__((aligned(16)));

/* Start a thread; `name` is kept.  Ends the machine if there is no memory,
 * panics beyond THREADS_MAX threads at a time. */
struct thread *thread_create(const char *name, void (*function)(void *),
                             void *argument);

/* Wait until it has ended, and forget it. */
void thread_join(struct thread *thread);

/* The thread that calls: end it, as its return does. */
_Noreturn void thread_exit(void);

/* Let the oldest runnable thread of this CPU run first, if there is one. */
void thread_yield(void);

/* Sleep for at least so long; to the next tick after it. */
void thread_sleep(uint64_t us);

struct thread *thread_current(void);

/* The i-th place for a thread, NULL beyond those ever used: for reports. */
struct thread *thread_at(unsigned i);
