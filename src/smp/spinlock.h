/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ticket spinlocks: first come, first served, and each knows its holder.
 *
 * A lock that interrupt handlers take too is taken with spin_lock_irq()
 * everywhere.  spin_lock() leaves interrupts as they are; the thread that
 * holds it is not preempted.
 *
 * What can't end well is a panic that names the lock, its holder and who
 * waits: taking it twice on one CPU, giving back what another CPU holds, a
 * lock that is taken both in a handler and with interrupts on, a circle of
 * CPUs that wait for each other, and a wait beyond SPIN_DEADLINE_US.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"

/* Far more than any lock is held: the holder was stopped, or will not give it
 * back.  A vCPU can wait for its turn for 100 ms, and each waiter before this
 * one too. */
#define SPIN_DEADLINE_US 20000000

struct spinlock {
    _Atomic uint32_t next;    /* the ticket that is drawn next */
    _Atomic uint32_t serving; /* the ticket whose turn it is */
    _Atomic uint32_t owner;   /* CPU index + 1; 0: nobody */
    const char *name;
    /* The code that took it last; that first took it in a handler, and first
     * with interrupts on: one of these two stays NULL. */
    _Atomic(void *) place, handler_place, interruptible_place;
};
#define SPINLOCK(text)                                                         \
    {                                                                          \
        .name = text                                                           \
    }

void spin_lock(struct spinlock *lock);
void spin_unlock(struct spinlock *lock);

/* The same with interrupts off between them. */
uint64_t spin_lock_irq(struct spinlock *lock);
void spin_unlock_irq(struct spinlock *lock, uint64_t flags);

/* Does the CPU that calls hold it? */
bool spin_is_mine(const struct spinlock *lock);
