/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/standstill.h"

#include <stdatomic.h>
#include <stddef.h>

#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/panic.h"
#include "sched/thread.h"

static _Atomic unsigned lively = 1;
static _Atomic unsigned waiting;

void standstill_more(void)
{
    atomic_fetch_add_explicit(&lively, 1, memory_order_relaxed);
}

void standstill_woken(void)
{
    atomic_fetch_sub_explicit(&waiting, 1, memory_order_relaxed);
}

/* The thread that this one waits for; NULL if only a wake-up could help. */
static struct thread *awaited(const struct thread *thread)
{
    return thread->wants ? thread->wants->owner : thread->joins;
}

static void describe(const struct thread *t)
{
    const struct thread *other = awaited(t);
    if (t->wants && !other)
        console_printf("    thread %u \"%s\" waits for mutex \"%s\" (%p), "
                       "which is free\n",
                       t->id, t->name, t->wants->waiters.lock.name,
                       (void *)t->wants);
    else if (t->wants)
        console_printf("    thread %u \"%s\" waits for mutex \"%s\" (%p), "
                       "held by thread %u \"%s\"\n",
                       t->id, t->name, t->wants->waiters.lock.name,
                       (void *)t->wants, other->id, other->name);
    else if (other)
        console_printf("    thread %u \"%s\" waits for the end of thread %u "
                       "\"%s\"%s\n",
                       t->id, t->name, other->id, other->name,
                       other->state == THREAD_ENDED ? ", which has ended" : "");
    else
        console_printf("    thread %u \"%s\" waits in the queue \"%s\" (%p)\n",
                       t->id, t->name, t->waits_in->lock.name,
                       (void *)t->waits_in);
}

/* Who waits for whom leads to one that waits for nobody, or around. */
static const char *verdict(const struct thread *thread)
{
    unsigned steps = 0;
    for (; awaited(thread); thread = awaited(thread))
        if (++steps > THREADS_MAX)
            return "deadlock: threads wait for each other";
    if (thread->state == THREAD_ENDED)
        return "lost wake-up: a thread waits for the end of one that has ended";
    return thread->wants ? "lost wake-up: a thread waits for a mutex that is "
                           "free"
                         : "lost wake-up: a thread waits in a queue, and "
                           "nobody is left to wake it";
}

/* The i-th thread of all, those bound to a CPU first; NULL: no more. */
static struct thread *nth(unsigned i)
{
    return i < lcpu_count ? &percpu_of(i)->outside : thread_at(i - lcpu_count);
}

static _Noreturn void report(void)
{
    struct thread *thread;
    const char *reason = NULL;
    panic_begin();
    console_printf("nothing can run any more: each thread waits for another\n");
    for (unsigned i = 0; (thread = nth(i)); i++) {
        if (thread->state != THREAD_WAITING)
            continue;
        describe(thread);
        if (!reason)
            reason = verdict(thread);
    }
    panic_end(reason ? reason : "nothing can run any more");
}

void standstill_less(bool waits)
{
    if (waits)
        atomic_fetch_add_explicit(&waiting, 1, memory_order_relaxed);
    /* Acquire and release: the one who reports sees what all the others
     * wrote before they stopped. */
    if (atomic_fetch_sub_explicit(&lively, 1, memory_order_acq_rel) == 1 &&
        atomic_load_explicit(&waiting, memory_order_relaxed))
        report();
}
