/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/sched.h"

#include <stddef.h>

#include "cpu/percpu.h"
#include "lib/panic.h"
#include "mm/frames.h"
#include "mm/paging.h"
#include "sched/deque.h"
#include "sched/idle.h"
#include "sched/standstill.h"
#include "sched/thread.h"
#include "smp/call.h"
#include "time/timer.h"
#include "time/tsc.h"

/* src/sched/switch.asm */
void context_switch(uint64_t *store, uint64_t load);

/* A frame for each CPU.  Only that CPU changes it, interrupts off; others
 * steal from the deque. */
struct run_queue {
    struct deque deque;
    struct thread *sleepers; /* the first to wake is first */
    struct sched_counts counts;
    bool halts;   /* in idle_halt(), or about to be */
    bool no_tick; /* the timer is stopped */
    bool outside; /* the code outside of threads was preempted */
    /* What the next thread does for the one that stopped, when its context
     * is saved: make it runnable, give a lock back. */
    struct thread *again;
    struct spinlock *lock;
};
_Static_assert(sizeof(struct run_queue) <= PAGE_SIZE, "a frame each");

/* CPUs that halt, a bit each. */
static _Atomic uint64_t halted[(NR_CPUS + 63) / 64];
static _Atomic unsigned usable; /* CPUs below run threads */

/* Runnable threads for which the deque had no room. */
static struct wait_queue overflow = WAIT_QUEUE("run queue overflow");
/* How many.  Read without the lock: every tick of every CPU would wait in one
 * line for it, and with fewer cores than CPUs each turn in that line lasts
 * until the host runs the right one. */
static _Atomic unsigned overflow_count;

void sched_init(void)
{
    for (unsigned i = 0; i < lcpu_count; i++)
        percpu_of(i)->queue = phys_to_virt(frames_allocate(1));
    atomic_store_explicit(&usable, lcpu_count, memory_order_relaxed);
}

static void nothing(void *unused)
{
    (void)unused;
}

void sched_use(unsigned cpus)
{
    atomic_store_explicit(&usable, cpus, memory_order_relaxed);
    /* A CPU that looks for a thread has interrupts off: when it has answered,
     * its next look knows the new number. */
    smp_call_all(nothing, NULL);
}

struct sched_counts sched_counts(unsigned cpu)
{
    return percpu_of(cpu)->queue->counts;
}

static unsigned here(void)
{
    return this_cpu()->lcpu->idx;
}

/* ------------------------------------------------------------- queues */

static void set_halted(bool halts)
{
    uint64_t bit = 1ull << here() % 64;
    this_cpu()->queue->halts = halts;
    if (halts)
        atomic_fetch_or_explicit(&halted[here() / 64], bit,
                                 memory_order_relaxed);
    else
        atomic_fetch_and_explicit(&halted[here() / 64], ~bit,
                                  memory_order_relaxed);
    /* Between the bit and the next look at the queues; pairs with the fence
     * in wake_a_cpu(): either we see the thread, or that one our bit. */
    atomic_thread_fence(memory_order_seq_cst);
}

/* There is a thread that this CPU does not run yet: let another steal it. */
static void wake_a_cpu(void)
{
    unsigned end = atomic_load_explicit(&usable, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned base = 0; base < end; base += 64) {
        uint64_t bits =
            atomic_load_explicit(&halted[base / 64], memory_order_relaxed);
        for (; bits; bits &= bits - 1) {
            unsigned cpu = base + (unsigned)__builtin_ctzll(bits);
            uint64_t bit = bits & -bits;
            if (cpu >= end)
                return;
            /* Whoever clears the bit sends the interrupt. */
            if (atomic_fetch_and_explicit(&halted[base / 64], ~bit,
                                          memory_order_relaxed) &
                bit) {
                smp_wake(cpu);
                return;
            }
        }
    }
}

static void make_runnable(struct thread *thread)
{
    atomic_store_explicit(&thread->state, THREAD_RUNNABLE,
                          memory_order_relaxed);
    if (!deque_push(&this_cpu()->queue->deque, thread)) {
        spin_lock(&overflow.lock);
        thread->next = NULL;
        if (overflow.first)
            overflow.last->next = thread;
        else
            overflow.first = thread;
        overflow.last = thread;
        /* The fence in wake_a_cpu() is between this and its look for CPUs
         * that halt, as that of set_halted() is in front of the read. */
        atomic_fetch_add_explicit(&overflow_count, 1, memory_order_relaxed);
        spin_unlock(&overflow.lock);
    }
    wake_a_cpu();
}

static struct thread *take_overflow(void)
{
    if (!atomic_load_explicit(&overflow_count, memory_order_relaxed))
        return NULL;
    spin_lock(&overflow.lock);
    struct thread *thread = overflow.first;
    if (thread) {
        overflow.first = thread->next;
        atomic_fetch_sub_explicit(&overflow_count, 1, memory_order_relaxed);
    }
    spin_unlock(&overflow.lock);
    return thread;
}

static struct thread *steal(void)
{
    unsigned me = here();
    for (unsigned i = 1; i < lcpu_count; i++) {
        unsigned victim = (me + i) % lcpu_count;
        struct thread *thread = deque_steal(&percpu_of(victim)->queue->deque);
        if (thread) {
            this_cpu()->queue->counts.steals++;
            return thread;
        }
    }
    return NULL;
}

/* The code outside of threads, if only the CPU is missing for it to go on: it
 * is in no queue, since no other CPU may run it. */
static struct thread *take_outside(void)
{
    struct percpu *cpu = this_cpu();
    bool ready = cpu->queue->outside;
    cpu->queue->outside = false;
    return ready ? &cpu->outside : NULL;
}

/* The next thread for this CPU: NULL if there is none anywhere. */
static struct thread *pick(void)
{
    struct thread *thread = take_outside();
    if (thread)
        return thread;
    if (here() >= atomic_load_explicit(&usable, memory_order_relaxed))
        return NULL;
    thread = deque_take(&this_cpu()->queue->deque);
    thread = thread ? thread : take_overflow();
    return thread ? thread : steal();
}

/* ------------------------------------------------------------- switching */

/* In the thread that goes on: what the one before it left to do. */
static void finish_switch(void)
{
    struct run_queue *queue = this_cpu()->queue;
    struct thread *again = queue->again;
    struct spinlock *lock = queue->lock;
    queue->again = NULL;
    queue->lock = NULL;
    if (again && again->id)
        make_runnable(again);
    else if (again)
        queue->outside = true;
    if (lock)
        spin_unlock(lock);
}

/* When it returns, this may be another CPU. */
static void switch_to(struct thread *next, struct thread *again,
                      struct spinlock *lock)
{
    struct percpu *cpu = this_cpu();
    struct thread *me = cpu->thread;
    if (cpu->in_handler || cpu->preemption_offs != (lock != NULL))
        panic("thread %u \"%s\" stops %s", me->id, me->name,
              cpu->in_handler ? "in an interrupt handler"
                              : "and holds a spinlock");
    cpu->thread = next;
    cpu->queue->again = again;
    cpu->queue->lock = lock;
    cpu->queue->counts.switches++;
    context_switch(&me->rsp, next->rsp);
    finish_switch();
}

void sched_begin(void)
{
    finish_switch();
}

static void set_tick(bool ticks)
{
    struct run_queue *queue = this_cpu()->queue;
    if (ticks && queue->no_tick)
        timer_start();
    else if (!ticks && !queue->no_tick)
        timer_stop();
    queue->no_tick = !ticks;
}

/* Stop until the state is runnable again. */
static void stop(struct spinlock *lock)
{
    struct percpu *cpu = this_cpu();
    struct thread *me = cpu->thread, *next;
    if (me->id) {
        next = pick();
        switch_to(next ? next : &cpu->outside, NULL, lock);
        return;
    }
    /* Outside of threads there is nowhere to go: this CPU runs the others
     * from here. */
    if (lock)
        spin_unlock(lock);
    /* Acquire pairs with the release in go_on(). */
    while (atomic_load_explicit(&me->state, memory_order_acquire) !=
           THREAD_RUNNABLE)
        sched_run_or_halt();
    set_tick(true);
}

static void go_on(struct thread *thread)
{
    if (thread->id) {
        make_runnable(thread);
        return;
    }
    struct percpu *cpu =
        (void *)((char *)thread - offsetof(struct percpu, outside));
    atomic_store_explicit(&thread->state, THREAD_RUNNABLE,
                          memory_order_release);
    if (cpu != this_cpu())
        smp_wake(cpu->lcpu->idx);
}

void sched_run_or_halt(void)
{
    struct run_queue *queue = this_cpu()->queue;
    struct thread *next = pick();
    if (!next) {
        set_halted(true);
        next = pick();
        if (!next) {
            set_tick(queue->sleepers);
            idle_halt();
        }
        set_halted(false);
    }
    if (next) {
        set_tick(true);
        switch_to(next, NULL, NULL);
    }
}

/* ------------------------------------------------------------- stopping */

void sched_start(struct thread *thread)
{
    standstill_more();
    make_runnable(thread);
}

void sched_wait(struct spinlock *lock)
{
    atomic_store_explicit(&this_cpu()->thread->state, THREAD_WAITING,
                          memory_order_relaxed);
    standstill_less(true);
    stop(lock);
}

void sched_wake(struct thread *thread)
{
    standstill_more();
    standstill_woken();
    go_on(thread);
}

void sched_end(struct spinlock *lock)
{
    atomic_store_explicit(&this_cpu()->thread->state, THREAD_ENDED,
                          memory_order_relaxed);
    standstill_less(false);
    stop(lock);
    panic("a thread that has ended goes on");
}

void sched_main_over(void)
{
    standstill_less(false);
}

void sched_sleep(uint64_t us)
{
    struct thread *me = this_cpu()->thread;
    struct thread **at = &this_cpu()->queue->sleepers;
    me->wake_at = deadline_in(us);
    while (*at && (int64_t)((*at)->wake_at - me->wake_at) <= 0)
        at = &(*at)->next;
    me->next = *at;
    *at = me;
    atomic_store_explicit(&me->state, THREAD_SLEEPING, memory_order_relaxed);
    stop(NULL);
}

/* The oldest that waits for this CPU. */
static struct thread *oldest(void)
{
    struct thread *thread = take_outside();
    thread = thread ? thread : deque_steal(&this_cpu()->queue->deque);
    return thread ? thread : take_overflow();
}

void sched_yield(void)
{
    struct thread *me = this_cpu()->thread;
    struct thread *next = oldest();
    if (next)
        switch_to(next, me, NULL);
}

void sched_tick(struct trap_frame *frame)
{
    (void)frame;
    struct percpu *cpu = this_cpu();
    struct run_queue *queue = cpu->queue;
    struct thread *me = cpu->thread, *next;
    while (queue->sleepers && deadline_passed(queue->sleepers->wake_at)) {
        struct thread *thread = queue->sleepers;
        queue->sleepers = thread->next;
        go_on(thread);
    }
    /* Who is about to halt looks at the queue by himself. */
    if (cpu->preemption_offs || queue->halts || !(next = oldest()))
        return;
    queue->counts.preemptions++;
    cpu->in_handler = false; /* the next thread is in none */
    switch_to(next, me, NULL);
}

/* To be interrupted is all that it is for: the CPU halts no more. */
void sched_ipi(void) {}
