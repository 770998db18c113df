/* SPDX-License-Identifier: BSD-2-Clause */
#include "mm/buddy.h"

#include <stdbool.h>

#include "lib/string.h"
#include "mm/layout.h"

/* A block's state stands at its first frame; STATE_POISONED at every frame
 * that is, but for a link that it may hold. */
#define STATE_FREE     0x80u
#define STATE_POISONED 0x40u
#define STATE_TAKEN    0x20u
#define STATE_ORDER    0x0fu

struct link {
    uint64_t next, previous; /* blocks; 0: none */
};

static uint64_t size_of(unsigned order)
{
    return (uint64_t)PAGE_SIZE << order;
}

static uint8_t *state_of(struct buddy *buddy, uint64_t block)
{
    return &buddy->states[block / PAGE_SIZE];
}

static void insert(struct buddy *buddy, uint64_t block, unsigned order)
{
    struct link *link = buddy->at(block);
    *link = (struct link){.next = buddy->first[order]};
    if (link->next)
        ((struct link *)buddy->at(link->next))->previous = block;
    buddy->first[order] = block;
    *state_of(buddy, block) |= (uint8_t)(STATE_FREE | order);
}

/* Where the link was is poison again, if the frame is. */
static void take_out(struct buddy *buddy, uint64_t block)
{
    uint8_t *state = state_of(buddy, block);
    struct link *link = buddy->at(block);
    if (link->next)
        ((struct link *)buddy->at(link->next))->previous = link->previous;
    if (link->previous)
        ((struct link *)buddy->at(link->previous))->next = link->next;
    else
        buddy->first[*state & STATE_ORDER] = link->next;
    *state &= STATE_POISONED;
    if (*state)
        memset(link, FRAME_POISON, sizeof *link);
}

void buddy_add(struct buddy *buddy, uint64_t start, uint64_t end)
{
    start = (start + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
    end =
        (end < buddy->limit ? end : buddy->limit) & ~(uint64_t)(PAGE_SIZE - 1);
    if (!start)
        start = PAGE_SIZE;
    /* From the top: the lowest blocks are handed out first. */
    while (start < end) {
        unsigned order = BUDDY_ORDERS - 1;
        while (end % size_of(order) || end - start < size_of(order))
            order--;
        end -= size_of(order);
        insert(buddy, end, order);
        buddy->free_frames += 1ull << order;
    }
}

static void check_poison(struct buddy *buddy, uint64_t frame)
{
    const uint8_t *bytes = buddy->at(frame);
    uint64_t word, poison;
    memset(&poison, FRAME_POISON, sizeof poison);
    for (unsigned i = 0; i < PAGE_SIZE; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        if (word != poison) {
            buddy->damaged = frame + i;
            return;
        }
    }
}

uint64_t buddy_allocate(struct buddy *buddy, unsigned order)
{
    unsigned found = order;
    while (found < BUDDY_ORDERS && !buddy->first[found])
        found++;
    if (found >= BUDDY_ORDERS)
        return 0;
    uint64_t block = buddy->first[found];
    take_out(buddy, block);
    while (found > order) {
        found--;
        insert(buddy, block + size_of(found), found);
    }
    for (uint64_t i = 0; i < size_of(order); i += PAGE_SIZE) {
        if (*state_of(buddy, block + i) & STATE_POISONED)
            check_poison(buddy, block + i);
        *state_of(buddy, block + i) = 0;
    }
    *state_of(buddy, block) = (uint8_t)(STATE_TAKEN | order);
    buddy->free_frames -= 1ull << order;
    return block;
}

/* Is [block, block + size) inside a free block? */
static bool lies_in_free(struct buddy *buddy, uint64_t block)
{
    for (unsigned order = 0; order < BUDDY_ORDERS; order++) {
        uint64_t first = block & ~(size_of(order) - 1);
        unsigned state = *state_of(buddy, first);
        if (state & STATE_FREE && (state & STATE_ORDER) >= order)
            return true;
    }
    return false;
}

enum buddy_error buddy_free(struct buddy *buddy, uint64_t block, unsigned order)
{
    if (order >= BUDDY_ORDERS || block % size_of(order))
        return BUDDY_NOT_ALIGNED;
    if (block >= buddy->limit)
        return BUDDY_NOT_MANAGED;
    unsigned state = *state_of(buddy, block);
    if (!(state & STATE_TAKEN))
        return lies_in_free(buddy, block) ? BUDDY_ALREADY_FREE
                                          : BUDDY_NOT_MANAGED;
    if ((state & STATE_ORDER) != order)
        return BUDDY_OTHER_SIZE;

    memset(buddy->at(block), FRAME_POISON, size_of(order));
    memset(state_of(buddy, block), STATE_POISONED, 1u << order);
    buddy->free_frames += 1ull << order;
    for (; order < BUDDY_ORDERS - 1; order++) {
        uint64_t neighbour = block ^ size_of(order);
        if (neighbour + size_of(order) > buddy->limit ||
            (*state_of(buddy, neighbour) & ~STATE_POISONED) !=
                (STATE_FREE | order))
            break;
        take_out(buddy, neighbour);
        block &= ~size_of(order);
    }
    insert(buddy, block, order);
    return BUDDY_OK;
}

unsigned buddy_order(size_t count)
{
    unsigned order = 0;
    while (order < BUDDY_ORDERS && (size_t)1 << order < count)
        order++;
    return order;
}

const char *buddy_error_text(enum buddy_error error)
{
    switch (error) {
    case BUDDY_OK: return "no error";
    case BUDDY_NOT_ALIGNED: return "it is not aligned to its size";
    case BUDDY_NOT_MANAGED: return "no allocated block starts there";
    case BUDDY_ALREADY_FREE: return "it is free already (freed twice)";
    case BUDDY_OTHER_SIZE: return "it was allocated with another size";
    }
    return "unknown error";
}
