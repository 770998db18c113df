/* SPDX-License-Identifier: BSD-2-Clause */
/* Without a word on CPUs or interrupts, so that tests run it on the host;
 * kmalloc.c has those. */
#include "mm/heap.h"

#include <stdbool.h>

#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frames.h"
#include "mm/layout.h"
#include "mm/paging.h"
#include "smp/lcpu.h"
#include "smp/spinlock.h"

#define SIZES       6 /* pieces of 32, 64 ... 1024 bytes */
#define SMALLEST    32u
#define CACHE_MOST  32u /* pieces; half of them go to the shared list then */
#define SLAB_MAGIC  0x4c414d5053424c41ull
#define USED_MAGIC  0x7573656400000000ull /* | the size that was asked for */
#define FREE_MAGIC  0x6672656500000000ull
#define MAGIC_OF(w) ((w) >> 32)

/* At the start of a slab's frame. */
struct slab {
    uint64_t magic;
    uint32_t piece_size, reserved;
};

struct piece {
    struct piece *next; /* while it is free; the rest is poison */
};

struct cache {
    struct piece *first;
    unsigned count;
};

static struct cache caches[NR_CPUS][SIZES];
static struct cache shared[SIZES];
static struct spinlock lock = SPINLOCK("heap"); /* interrupts are off */

static size_t piece_size(unsigned index)
{
    return (size_t)SMALLEST << index;
}

/* A piece's last word. */
static uint64_t *tag_of(void *piece, size_t size)
{
    return (uint64_t *)((char *)piece + size - sizeof(uint64_t));
}

static void put(struct cache *cache, struct piece *piece)
{
    piece->next = cache->first;
    cache->first = piece;
    cache->count++;
}

static struct piece *take(struct cache *cache)
{
    struct piece *piece = cache->first;
    if (piece) {
        cache->first = piece->next;
        cache->count--;
    }
    return piece;
}

static void make_free(void *piece, size_t size)
{
    memset(piece, HEAP_POISON, size);
    *tag_of(piece, size) = FREE_MAGIC;
}

/* Cut a frame into pieces.  The first slot holds the slab. */
static void add_slab(struct cache *cache, size_t size)
{
    char *frame = phys_to_virt(frames_allocate(1));
    *(struct slab *)frame =
        (struct slab){.magic = SLAB_MAGIC, .piece_size = (uint32_t)size};
    for (size_t at = PAGE_SIZE - size; at >= size; at -= size) {
        make_free(frame + at, size);
        put(cache, (struct piece *)(frame + at));
    }
}

static void refill(struct cache *cache, unsigned index)
{
    spin_lock(&lock);
    while (shared[index].first && cache->count < CACHE_MOST / 2)
        put(cache, take(&shared[index]));
    spin_unlock(&lock);
    if (!cache->count)
        add_slab(cache, piece_size(index));
}

static void spill(struct cache *cache, unsigned index)
{
    spin_lock(&lock);
    while (cache->count > CACHE_MOST / 2)
        put(&shared[index], take(cache));
    spin_unlock(&lock);
}

/* The first of [from, to) that is not `pattern`, or `to`. */
static const uint8_t *differs(const void *from, const void *to, int pattern)
{
    const uint8_t *at = from;
    while (at != to && *at == pattern)
        at++;
    return at;
}

void *heap_allocate(unsigned cpu, size_t size)
{
    unsigned index = 0;
    if (size > HEAP_LARGEST)
        panic("kmalloc: %zu bytes, and a piece has at most %d: allocate "
              "frames",
              size, HEAP_LARGEST);
    while (piece_size(index) - sizeof(uint64_t) < size)
        index++;
    struct cache *cache = &caches[cpu][index];
    if (!cache->first)
        refill(cache, index);
    struct piece *piece = take(cache);
    uint64_t *tag = tag_of(piece, piece_size(index));
    const uint8_t *at = differs(piece + 1, tag, HEAP_POISON);
    if (at != (const uint8_t *)tag || *tag != FREE_MAGIC)
        panic("kmalloc: %p was written after it was freed, at %p",
              (void *)piece, (const void *)at);
    memset((char *)piece + size, HEAP_SLACK,
           piece_size(index) - sizeof *tag - size);
    *tag = USED_MAGIC | size;
    return piece;
}

void heap_free(unsigned cpu, void *piece)
{
    uint64_t address = (uint64_t)piece;
    const struct slab *slab =
        (const void *)(address & ~(uint64_t)(PAGE_SIZE - 1));
    unsigned index = 0;
    if (!piece)
        return;
    while (index < SIZES && piece_size(index) != slab->piece_size)
        index++;
    if (slab->magic != SLAB_MAGIC || index == SIZES ||
        address % piece_size(index) || piece == (const void *)slab)
        panic("kfree: %p is no piece of the heap", piece);

    uint64_t *tag = tag_of(piece, piece_size(index));
    size_t size = (uint32_t)*tag;
    if (MAGIC_OF(*tag) == MAGIC_OF(FREE_MAGIC))
        panic("kfree: %p is free already (freed twice)", piece);
    if (MAGIC_OF(*tag) != MAGIC_OF(USED_MAGIC) ||
        size > piece_size(index) - sizeof *tag ||
        differs((char *)piece + size, tag, HEAP_SLACK) != (uint8_t *)tag)
        panic("kfree: %p was written beyond its end, in a piece of %zu bytes",
              piece, piece_size(index));
    make_free(piece, piece_size(index));
    struct cache *cache = &caches[cpu][index];
    put(cache, piece);
    if (cache->count > CACHE_MOST)
        spill(cache, index);
}
