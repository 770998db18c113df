/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/spinlock.h"

#include <stddef.h>

#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/panic.h"
#include "time/tsc.h"

/* So many looks at the lock between two looks for a deadlock. */
#define LOOKS 256

/* The code that calls the function that uses this. */
#define PLACE() __builtin_return_address(0)

/* What each CPU waits for, for the others to see. */
static struct wait {
    _Atomic(struct spinlock *) lock;
    _Atomic(void *) place;
} waits[NR_CPUS];

static uint32_t here(void)
{
    return this_cpu()->lcpu->idx;
}

static uint32_t owner_of(const struct spinlock *lock)
{
    return atomic_load_explicit(&lock->owner, memory_order_acquire);
}

bool spin_is_mine(const struct spinlock *lock)
{
    return owner_of(lock) == here() + 1;
}

/* ------------------------------------------------------------- deadlock */

struct circle {
    unsigned links; /* 0: it is none */
    uint64_t trace; /* of the locks and CPUs on it */
};

/* From a lock to its holder, to what that one waits for, and so on: back to
 * this CPU? */
static struct circle follow(struct spinlock *lock)
{
    struct circle circle = {0};
    while (lock && circle.links <= NR_CPUS) {
        uint32_t owner = owner_of(lock);
        if (!owner)
            break;
        circle.links++;
        circle.trace =
            (circle.trace << 7 | circle.trace >> 57) ^ (uintptr_t)lock ^ owner;
        if (owner == here() + 1)
            return circle;
        lock =
            atomic_load_explicit(&waits[owner - 1].lock, memory_order_acquire);
    }
    return (struct circle){0};
}

/*
 * A link is read while the others may change.  But the CPU that waits for us
 * can't go on; so it can give nothing back, and a second look that finds the
 * same proves the link before it, and so on around.
 */
static bool is_deadlock(struct spinlock *lock)
{
    struct circle first = follow(lock);
    for (unsigned i = 0; i < first.links; i++) {
        struct circle again = follow(lock);
        if (again.links != first.links || again.trace != first.trace)
            return false;
    }
    return first.links;
}

static void describe_holder(const struct spinlock *lock)
{
    uint32_t owner = owner_of(lock);
    if (owner)
        console_printf("    lock \"%s\" (%p) is held by CPU %u, which took it "
                       "at %p\n",
                       lock->name, (const void *)lock, owner - 1, lock->place);
    else
        console_printf("    lock \"%s\" (%p) is free: ticket %u waits, %u is "
                       "served\n",
                       lock->name, (const void *)lock, lock->next - 1,
                       lock->serving);
}

static void describe_waiter(unsigned cpu)
{
    const struct spinlock *lock = waits[cpu].lock;
    console_printf("    CPU %u waits for lock \"%s\" (%p) at %p\n", cpu,
                   lock->name, (const void *)lock, waits[cpu].place);
}

static _Noreturn void report_circle(struct spinlock *lock)
{
    panic_begin();
    console_printf("deadlock: CPUs wait for each other's locks\n");
    for (uint32_t cpu = here();;) {
        describe_waiter(cpu);
        lock = waits[cpu].lock;
        describe_holder(lock);
        cpu = owner_of(lock) - 1;
        if (cpu == here())
            break;
    }
    panic_end("deadlock: each CPU above holds what another one waits for");
}

static _Noreturn void report_stuck(struct spinlock *lock)
{
    panic_begin();
    console_printf("lock \"%s\" was not given back for %u s\n", lock->name,
                   SPIN_DEADLINE_US / 1000000);
    describe_holder(lock);
    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++)
        if (waits[cpu].lock == lock)
            describe_waiter(cpu);
    panic_end("a lock is not given back");
}

/* ------------------------------------------------------------- checks */

/* Remember a first time. */
static void note(_Atomic(void *) *first, void *place)
{
    if (!atomic_load_explicit(first, memory_order_relaxed))
        atomic_store_explicit(first, place, memory_order_relaxed);
}

/* Before it waits: what would never end is said instead. */
static void check(struct spinlock *lock, void *place)
{
    if (spin_is_mine(lock))
        panic("deadlock: CPU %u takes lock \"%s\" (%p) at %p, and holds it "
              "since %p",
              here(), lock->name, (void *)lock, place, lock->place);
    if (this_cpu()->in_handler)
        note(&lock->handler_place, place);
    else if (read_rflags() & RFLAGS_IF)
        note(&lock->interruptible_place, place);
    if (atomic_load_explicit(&lock->handler_place, memory_order_relaxed) &&
        atomic_load_explicit(&lock->interruptible_place, memory_order_relaxed))
        panic("lock \"%s\" (%p) is taken in an interrupt handler, at %p, "
              "and with interrupts on, at %p: a handler that interrupts "
              "its holder would wait for ever; use spin_lock_irq()",
              lock->name, (void *)lock, lock->handler_place,
              lock->interruptible_place);
}

/* ------------------------------------------------------------- the lock */

static void wait_for_turn(struct spinlock *lock, uint32_t ticket, void *place)
{
    struct wait *mine = &waits[here()];
    /* Not NULL in a handler that interrupted such a wait. */
    struct spinlock *before = mine->lock;
    void *place_before = mine->place;
    mine->place = place;
    /* Release pairs with the acquire in follow(). */
    atomic_store_explicit(&mine->lock, lock, memory_order_release);

    uint64_t deadline = deadline_in(SPIN_DEADLINE_US);
    unsigned looks = 0;
    /* Acquire pairs with the release in spin_unlock(). */
    while (atomic_load_explicit(&lock->serving, memory_order_acquire) !=
           ticket) {
        pause();
        if (++looks % LOOKS)
            continue;
        if (is_deadlock(lock))
            report_circle(lock);
        if (deadline_passed(deadline))
            report_stuck(lock);
    }
    mine->place = place_before;
    atomic_store_explicit(&mine->lock, before, memory_order_release);
}

static void acquire(struct spinlock *lock, void *place)
{
    preemption_off();
    check(lock, place);
    uint32_t ticket =
        atomic_fetch_add_explicit(&lock->next, 1, memory_order_relaxed);
    if (atomic_load_explicit(&lock->serving, memory_order_acquire) != ticket)
        wait_for_turn(lock, ticket, place);
    lock->place = place;
    /* Release: who sees the owner sees where it took the lock. */
    atomic_store_explicit(&lock->owner, here() + 1, memory_order_release);
}

void spin_lock(struct spinlock *lock)
{
    acquire(lock, PLACE());
}

void spin_unlock(struct spinlock *lock)
{
    if (!spin_is_mine(lock))
        panic("CPU %u gives back lock \"%s\" (%p), which CPU %d holds", here(),
              lock->name, (void *)lock, (int)owner_of(lock) - 1);
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    /* Release pairs with the acquires of `serving`. */
    atomic_fetch_add_explicit(&lock->serving, 1, memory_order_release);
    preemption_on();
}

uint64_t spin_lock_irq(struct spinlock *lock)
{
    uint64_t flags = interrupts_save();
    acquire(lock, PLACE());
    return flags;
}

void spin_unlock_irq(struct spinlock *lock, uint64_t flags)
{
    spin_unlock(lock);
    interrupts_restore(flags);
}
