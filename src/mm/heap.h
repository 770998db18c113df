/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small pieces of memory: a cache of free ones for each CPU and size over
 * slabs of one frame each.  A CPU takes from its own cache and gives to it,
 * without a lock; only an empty or an overfull cache turns to the shared
 * list of its size.
 *
 * A piece ends with a word that says how it is used, and what it has beyond
 * the size that was asked for is full of a pattern: a write beyond its end
 * and a second free are found when it is freed, a write after that when it
 * is handed out again.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HEAP_LARGEST 1008 /* bytes that one piece can hold */
#define HEAP_POISON  0xf6 /* a free piece */
#define HEAP_SLACK   0xf5 /* behind the bytes that were asked for */

/* `size` bytes, aligned to 16, with any content.  Panics if `size` is more
 * than HEAP_LARGEST; ends the machine if there is no memory. */
void *kmalloc(size_t size);
/* Panics if the piece is no piece, free already, or overflowed.  NULL is
 * allowed. */
void kfree(void *piece);

/* The same with the cache given: the caller alone uses that one. */
void *heap_allocate(unsigned cache, size_t size);
void heap_free(unsigned cache, void *piece);
