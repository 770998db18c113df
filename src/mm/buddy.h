/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The buddy system: blocks of 2^order frames, each aligned to its size, so
 * that a freed block finds its neighbour by one bit of its address.  Pure but
 * for the memory that at() leads to, so that tests run it on the host; the
 * caller locks (src/mm/frames.c).
 *
 * A free block's first words link it to the others of its order.  A frame
 * that was freed is full of poison: what differs when it is handed out again
 * was written through a pointer that should have been forgotten.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define BUDDY_ORDERS 11 /* up to 4 MiB */
#define FRAME_POISON 0xf7

struct buddy {
    uint8_t *states; /* one a frame, zeroed; those of [0, limit) */
    uint64_t limit;  /* physical; no block lies beyond */
    void *(*at)(uint64_t physical);
    uint64_t first[BUDDY_ORDERS]; /* free blocks by order; 0: none */
    uint64_t free_frames;
    uint64_t damaged; /* where poison was overwritten; 0: nowhere */
};

enum buddy_error {
    BUDDY_OK,
    BUDDY_NOT_ALIGNED,
    BUDDY_NOT_MANAGED,  /* no allocated block starts there */
    BUDDY_ALREADY_FREE, /* freed twice */
    BUDDY_OTHER_SIZE,   /* allocated with another order */
};

/* Frames of [start, end), which must be new to it; partial ones are left out.
 * Frame 0 is never taken. */
void buddy_add(struct buddy *buddy, uint64_t start, uint64_t end);

/* The lowest-order block that is large enough, split; 0 if there is none.
 * Sets `damaged` if the block's poison was overwritten. */
uint64_t buddy_allocate(struct buddy *buddy, unsigned order);

/* Poison a block, and merge it with its neighbours. */
enum buddy_error buddy_free(struct buddy *buddy, uint64_t block,
                            unsigned order);

const char *buddy_error_text(enum buddy_error error);

/* The order whose blocks hold `count` frames; BUDDY_ORDERS if none does. */
unsigned buddy_order(size_t count);
