/* SPDX-License-Identifier: BSD-2-Clause */
/* The heap over frames of the host's: each cache used by a thread of its own,
 * and every misuse that must end in a panic. */
#include "machine.h"

#include <stdatomic.h>

#include "mm/frames.h"
#include "mm/heap.h"
#include "mm/layout.h"

#define THREADS 4
#define FRAMES  4096

static uint8_t *memory; /* its host address is DIRECT_MAP + its physical one */
static atomic_size_t used;

uint64_t frames_allocate(size_t count)
{
    size_t first = atomic_fetch_add(&used, count);
    if (first + count > FRAMES)
        abort();
    return (uint64_t)memory + first * PAGE_SIZE - DIRECT_MAP;
}

static void pieces_do_not_overlap(void **state)
{
    static uint8_t *pieces[2000];
    static size_t sizes[2000];
    for (unsigned i = 0; i < 2000; i++) {
        sizes[i] = 1 + below(HEAP_LARGEST);
        pieces[i] = heap_allocate(0, sizes[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i & 0xff), sizes[i]);
    }
    for (unsigned i = 0; i < 2000; i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(pieces[i][at], i & 0xff);
        heap_free(0, pieces[i]);
    }
}

static void what_one_cpu_frees_another_uses(void **state)
{
    static void *pieces[500];
    for (unsigned i = 0; i < 500; i++)
        pieces[i] = heap_allocate(1, 100);
    for (unsigned i = 0; i < 500; i++)
        heap_free(2, pieces[i]);
    size_t before = used;
    for (unsigned i = 0; i < 400; i++)
        pieces[i] = heap_allocate(3, 100);
    assert_int_equal(used, before); /* no new slab */
    for (unsigned i = 0; i < 400; i++)
        heap_free(3, pieces[i]);
}

static void misuse_panics(void **state)
{
    uint8_t *piece = heap_allocate(0, 40);
    assert_panics(heap_free(0, piece + 8), "is no piece");
    assert_panics(heap_free(0, (void *)((uintptr_t)piece & ~0xfffull)),
                  "is no piece");
    assert_panics(heap_allocate(0, HEAP_LARGEST + 1), "allocate frames");
    heap_free(0, piece);
    assert_panics(heap_free(0, piece), "freed twice");
    piece[20] = 1;
    assert_panics(heap_allocate(0, 40), "written after it was freed");

    piece = heap_allocate(0, 41);
    piece[41] = 0;
    assert_panics(heap_free(0, piece), "beyond its end");
    piece = heap_allocate(0, 56); /* not a byte of slack */
    piece[56] = 0;
    assert_panics(heap_free(0, piece), "beyond its end");
    piece = heap_allocate(0, 56);
    memset(piece, 0xff, 64);
    assert_panics(heap_free(0, piece), "beyond its end");
    heap_free(0, NULL);
}

/* Pieces go from thread to thread: each frees what the one before it made. */
static _Atomic(uint8_t *) mailbox[THREADS];

static void work(unsigned cache)
{
    uint8_t *held[50] = {0};
    uint32_t state = cache + 1;
    for (int i = 0; i < 20000; i++) {
        state = state * 1664525 + 1013904223;
        uint8_t **slot = &held[(state >> 8) % 50];
        if (*slot)
            *slot = atomic_exchange(&mailbox[(state >> 20) % THREADS], *slot);
        if (*slot) {
            if ((*slot)[0] != (*slot)[15])
                abort();
            heap_free(cache, *slot);
        }
        *slot = heap_allocate(cache, 16 + (state >> 16) % 200);
        memset(*slot, (int)(i & 0xff), 16);
    }
    for (unsigned i = 0; i < 50; i++)
        if (held[i])
            heap_free(cache, held[i]);
}

static void caches_work_at_once(void **state)
{
    machine_forget();
    assert_int_equal(on_cpus(THREADS, work), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_do_not_overlap),
        cmocka_unit_test(what_one_cpu_frees_another_uses),
        cmocka_unit_test(caches_work_at_once),
        cmocka_unit_test(misuse_panics),
    };
    become_cpu(0);
    memory = aligned_alloc(PAGE_SIZE, FRAMES * PAGE_SIZE);
    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
