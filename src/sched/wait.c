/* SPDX-License-Identifier: BSD-2-Clause */
/* Without a word on CPUs, so that tests run it on the host; sched.c makes a
 * thread stop and go on. */
#include "sched/wait.h"

#include <stddef.h>

#include "lib/panic.h"
#include "sched/sched.h"
#include "sched/thread.h"

void wait_sleep(struct wait_queue *queue)
{
    struct thread *me = thread_current();
    me->next = NULL;
    me->waits_in = queue;
    if (queue->first)
        queue->last->next = me;
    else
        queue->first = me;
    queue->last = me;
    sched_wait(&queue->lock);
    spin_lock(&queue->lock);
}

struct thread *wait_wake(struct wait_queue *queue)
{
    struct thread *thread = queue->first;
    if (thread) {
        queue->first = thread->next;
        thread->waits_in = NULL;
        sched_wake(thread);
    }
    return thread;
}

void wait_wake_all(struct wait_queue *queue)
{
    while (wait_wake(queue))
        ;
}

void mutex_lock(struct mutex *mutex)
{
    struct thread *me = thread_current();
    uint64_t flags = spin_lock_irq(&mutex->waiters.lock);
    if (mutex->owner == me)
        panic("deadlock: thread %u \"%s\" takes mutex \"%s\" (%p), and holds "
              "it already",
              me->id, me->name, mutex->waiters.lock.name, (void *)mutex);
    if (mutex->owner) {
        me->wants = mutex;
        wait_sleep(&mutex->waiters); /* who gives it back makes us its owner */
        me->wants = NULL;
    } else {
        mutex->owner = me;
    }
    spin_unlock_irq(&mutex->waiters.lock, flags);
}

void mutex_unlock(struct mutex *mutex)
{
    struct thread *me = thread_current();
    uint64_t flags = spin_lock_irq(&mutex->waiters.lock);
    if (mutex->owner != me)
        panic("thread %u \"%s\" gives back mutex \"%s\" (%p), which it does "
              "not hold",
              me->id, me->name, mutex->waiters.lock.name, (void *)mutex);
    mutex->owner = wait_wake(&mutex->waiters);
    spin_unlock_irq(&mutex->waiters.lock, flags);
}
