/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The work-stealing deque of Chase and Lev, bounded.  One owner pushes and
 * takes at the bottom; anybody, the owner too, steals at the top.
 *
 * The memory orders are those of "Correct and Efficient Work-Stealing for
 * Weak Memory Models" (PPoPP 2013), with its fences moved into the accesses
 * beside them: ThreadSanitizer sees those and no fences.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DEQUE_SLOTS 256 /* a power of two */

struct deque {
    /* A cache line each: thieves write one, the owner the other. */
    _Atomic int64_t top __attribute__((aligned(64)));
    _Atomic int64_t bottom __attribute__((aligned(64)));
    _Atomic(void *) slots[DEQUE_SLOTS] __attribute__((aligned(64)));
};

/* Owner: what was written to *task before is seen by who gets it.  False if
 * the deque is full. */
bool deque_push(struct deque *deque, void *task);
/* Owner: the newest; NULL if there is none. */
void *deque_take(struct deque *deque);
/* Anybody: the oldest; NULL if there is none. */
void *deque_steal(struct deque *deque);
/* Anybody: a moment's truth. */
bool deque_is_empty(struct deque *deque);
