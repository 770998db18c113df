/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Wait queues and the mutex.
 *
 * Who waits holds the queue's lock from the look at what it waits for until
 * its context is saved, and who changes that takes the same lock before it
 * wakes: no wake-up comes between the look and the sleep.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "smp/spinlock.h"

struct thread;

struct wait_queue {
    struct spinlock lock;
    struct thread *first, *last;
};
#define WAIT_QUEUE(text)                                                       \
    {                                                                          \
        .lock = SPINLOCK(text)                                                 \
    }

/* Wait until woken.  The lock is held, by spin_lock_irq(), before and after,
 * and free meanwhile: look again at what you wait for. */
void wait_sleep(struct wait_queue *queue);

/* With the lock held: wake the one that waits longest, and all.  Returns who
 * was woken, NULL if nobody waits. */
struct thread *wait_wake(struct wait_queue *queue);
void wait_wake_all(struct wait_queue *queue);

/* Held for as long as one likes; threads that want it sleep, and get it in
 * the order in which they came. */
struct mutex {
    struct wait_queue waiters;
    struct thread *owner;
};
#define MUTEX(text)                                                            \
    {                                                                          \
        .waiters = WAIT_QUEUE(text)                                            \
    }

/* Panic on what can't end well: taking it twice, giving back another's. */
void mutex_lock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);
