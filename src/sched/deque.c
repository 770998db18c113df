/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tasks lie in slots [top, bottom), each counted from the beginning of time.
 * Only the owner changes bottom, down by one and up again; top only grows,
 * by compare-and-swap.
 *
 * The pairs:
 *   P  push's release of bottom, steal's read of it: who sees the new bottom
 *      sees the slot, and what the slot leads to
 *   Q  steal's swap of top, push's acquire: a slot is used again only after
 *      the thief has read it
 *   S  take writes bottom, then reads top; steal reads top, then bottom: all
 *      four are sequentially consistent, so that not both miss what the
 *      other did.  On x86 it is take's store that would be late.
 */
#include "sched/deque.h"

#include <stddef.h>

static _Atomic(void *) *slot(struct deque *deque, int64_t index)
{
    return &deque->slots[index & (DEQUE_SLOTS - 1)];
}

bool deque_push(struct deque *deque, void *task)
{
    int64_t bottom = atomic_load_explicit(&deque->bottom, memory_order_relaxed);
    int64_t top = atomic_load_explicit(&deque->top, memory_order_acquire);
    if (bottom - top >= DEQUE_SLOTS) /* Q above */
        return false;
    atomic_store_explicit(slot(deque, bottom), task, memory_order_relaxed);
    atomic_store_explicit(&deque->bottom, bottom + 1,
                          memory_order_release); /* P */
    return true;
}

void *deque_take(struct deque *deque)
{
    int64_t bottom =
        atomic_load_explicit(&deque->bottom, memory_order_relaxed) - 1;
    atomic_store_explicit(&deque->bottom, bottom, memory_order_seq_cst); /* S */
    int64_t top = atomic_load_explicit(&deque->top, memory_order_seq_cst);
    void *task = NULL;
    if (top <= bottom)
        task = atomic_load_explicit(slot(deque, bottom), memory_order_relaxed);
    if (top < bottom)
        return task; /* thieves stay above: there is one more */
    /* The last one: whoever moves top has it. */
    if (top == bottom && !atomic_compare_exchange_strong_explicit(
                             &deque->top, &top, top + 1, memory_order_seq_cst,
                             memory_order_relaxed))
        task = NULL;
    /* Release: a thief may read this bottom instead of push's (P). */
    atomic_store_explicit(&deque->bottom, bottom + 1, memory_order_release);
    return task;
}

void *deque_steal(struct deque *deque)
{
    for (;;) {
        int64_t top = atomic_load_explicit(&deque->top, memory_order_seq_cst);
        int64_t bottom =
            atomic_load_explicit(&deque->bottom, memory_order_seq_cst); /* S */
        if (top >= bottom)
            return NULL;
        void *task =
            atomic_load_explicit(slot(deque, top), memory_order_relaxed);
        /* Q.  If it fails, another one got this task: look at the next. */
        if (atomic_compare_exchange_strong_explicit(&deque->top, &top, top + 1,
                                                    memory_order_seq_cst,
                                                    memory_order_relaxed))
            return task;
    }
}

bool deque_is_empty(struct deque *deque)
{
    int64_t top = atomic_load_explicit(&deque->top, memory_order_seq_cst);
    return top >= atomic_load_explicit(&deque->bottom, memory_order_seq_cst);
}
