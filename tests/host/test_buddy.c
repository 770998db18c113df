/* SPDX-License-Identifier: BSD-2-Clause */
/* The buddy system on a small memory whose end ASan guards. */
#include "machine.h"

#include "mm/buddy.h"
#include "mm/layout.h"
#include "smp/spinlock.h"

#define FRAMES 1024u
#define BASE   0x130000ull /* an odd start, as the kernel's end is */
#define LIMIT  (BASE + FRAMES * PAGE_SIZE)

static struct buddy buddy;
static uint8_t *memory;

static void *at(uint64_t physical)
{
    assert_true(physical >= BASE && physical + PAGE_SIZE <= LIMIT);
    return memory + (physical - BASE);
}

static int set_up(void **state)
{
    memory = aligned_alloc(PAGE_SIZE, FRAMES * PAGE_SIZE);
    memset(memory, 0x11, FRAMES * PAGE_SIZE);
    buddy = (struct buddy){.limit = LIMIT, .at = at};
    buddy.states = calloc(LIMIT / PAGE_SIZE, 1);
    buddy_add(&buddy, BASE, LIMIT);
    return 0;
}

static int tear_down(void **state)
{
    free(memory);
    free(buddy.states);
    return 0;
}

static void hands_out_every_frame_once(void **state)
{
    assert_int_equal(buddy.free_frames, FRAMES);
    for (uint64_t i = 0; i < FRAMES; i++) {
        uint64_t frame = buddy_allocate(&buddy, 0);
        assert_int_equal(*(uint8_t *)at(frame) == 0xee, false);
        memset(at(frame), 0xee, PAGE_SIZE);
        if (i < 16) /* ascending, as long as the first block lasts */
            assert_int_equal(frame, BASE + i * PAGE_SIZE);
    }
    assert_int_equal(buddy_allocate(&buddy, 0), 0);
    assert_int_equal(buddy.free_frames, 0);
}

static void merges_what_is_freed(void **state)
{
    for (unsigned i = 0; i < FRAMES; i++)
        buddy_allocate(&buddy, 0);
    assert_int_equal(buddy_allocate(&buddy, 8), 0);
    for (uint64_t i = 0; i < FRAMES; i++) /* in a mixed order */
        assert_int_equal(
            buddy_free(&buddy, BASE + i * 389 % FRAMES * PAGE_SIZE, 0),
            BUDDY_OK);
    assert_int_equal(buddy.free_frames, FRAMES);
    uint64_t block = buddy_allocate(&buddy, 8);
    assert_int_not_equal(block, 0);
    assert_int_equal(block % ((uint64_t)PAGE_SIZE << 8), 0);
    assert_int_equal(buddy.damaged, 0);
}

static void partial_frames_and_frame_0_are_left_out(void **state)
{
    struct buddy small = {.limit = 4 * PAGE_SIZE, .at = at};
    uint8_t states[4] = {0};
    small.states = states;
    buddy_add(&small, PAGE_SIZE + 1, 2 * PAGE_SIZE + 4095);
    assert_int_equal(small.free_frames, 0);
    buddy_add(&small, 8, 4095);
    assert_int_equal(small.free_frames, 0);
    buddy_add(&small, 9 * PAGE_SIZE, 10 * PAGE_SIZE); /* beyond the limit */
    assert_int_equal(small.free_frames, 0);
}

static void a_wrong_free_is_refused(void **state)
{
    uint64_t block = buddy_allocate(&buddy, 2);
    assert_int_equal(buddy_free(&buddy, block + PAGE_SIZE, 0),
                     BUDDY_NOT_MANAGED);
    assert_int_equal(buddy_free(&buddy, block + 1, 0), BUDDY_NOT_ALIGNED);
    assert_int_equal(buddy_free(&buddy, block, 1), BUDDY_OTHER_SIZE);
    assert_int_equal(buddy_free(&buddy, block, BUDDY_ORDERS),
                     BUDDY_NOT_ALIGNED);
    assert_int_equal(buddy_free(&buddy, LIMIT, 0), BUDDY_NOT_MANAGED);
    assert_int_equal(buddy_free(&buddy, 0x1000, 0), BUDDY_NOT_MANAGED);
    assert_int_equal(buddy_free(&buddy, block, 2), BUDDY_OK);
    assert_int_equal(buddy_free(&buddy, block, 2), BUDDY_ALREADY_FREE);
    assert_int_equal(buddy_free(&buddy, block + PAGE_SIZE, 0),
                     BUDDY_ALREADY_FREE);
    assert_int_equal(buddy.free_frames, FRAMES);
}

static void a_write_after_free_is_found(void **state)
{
    uint64_t block = buddy_allocate(&buddy, 0);
    memset(at(block), 0x22, PAGE_SIZE);
    buddy_free(&buddy, block, 0);
    ((uint8_t *)at(block))[0x123] ^= 1;
    assert_int_equal(buddy_allocate(&buddy, 0), block);
    assert_int_equal(buddy.damaged, block + 0x120);
}

static void survives_any_sequence(void **state)
{
    static struct {
        uint64_t block;
        unsigned order;
    } held[300];
    static bool taken[FRAMES];
    memset(taken, 0, sizeof taken);
    uint64_t in_use = 0;
    for (int step = 0; step < 100000; step++) {
        unsigned i = below(300);
        if (held[i].block) {
            uint64_t first = (held[i].block - BASE) / PAGE_SIZE;
            for (uint64_t f = 0; f < 1ull << held[i].order; f++) {
                assert_true(taken[first + f]);
                taken[first + f] = false;
            }
            in_use -= 1ull << held[i].order;
            assert_int_equal(buddy_free(&buddy, held[i].block, held[i].order),
                             BUDDY_OK);
            held[i].block = 0;
        } else {
            unsigned order = below(5);
            uint64_t block = buddy_allocate(&buddy, order);
            if (!block)
                continue;
            assert_int_equal(block % ((uint64_t)PAGE_SIZE << order), 0);
            uint64_t first = (block - BASE) / PAGE_SIZE;
            for (uint64_t f = 0; f < 1ull << order; f++) {
                assert_false(taken[first + f]);
                taken[first + f] = true;
            }
            memset(at(block), (int)i, PAGE_SIZE);
            held[i].block = block;
            held[i].order = order;
            in_use += 1ull << order;
        }
        assert_int_equal(buddy.free_frames, FRAMES - in_use);
        assert_int_equal(buddy.damaged, 0);
    }
}

/* As src/mm/frames.c does: each CPU fills what it gets with its own number,
 * and must find it unchanged. */
static struct spinlock lock = SPINLOCK("frames");
static _Atomic unsigned shared_frames;

static void allocate_and_free(unsigned cpu)
{
    for (unsigned i = 0; i < 2000; i++) {
        unsigned order = (i + cpu) % 3;
        size_t size = PAGE_SIZE << order;
        uint64_t flags = spin_lock_irq(&lock);
        uint64_t block = buddy_allocate(&buddy, order);
        spin_unlock_irq(&lock, flags);
        uint8_t *bytes = at(block);
        memset(bytes, (int)cpu, size);
        pause();
        shared_frames += bytes[0] != cpu || memcmp(bytes, bytes + 1, size - 1);
        flags = spin_lock_irq(&lock);
        enum buddy_error error = buddy_free(&buddy, block, order);
        spin_unlock_irq(&lock, flags);
        shared_frames += error != BUDDY_OK;
    }
}

static void no_two_cpus_get_the_same_frame(void **state)
{
    become_cpu(0);
    machine_forget();
    uint64_t before = buddy.free_frames;
    assert_int_equal(on_cpus(4, allocate_and_free), 0);
    assert_int_equal(shared_frames, 0);
    assert_int_equal(buddy.free_frames, before);
    assert_int_equal(buddy.damaged, 0);
}

static void orders(void **state)
{
    assert_int_equal(buddy_order(1), 0);
    assert_int_equal(buddy_order(3), 2);
    assert_int_equal(buddy_order(1024), 10);
    assert_int_equal(buddy_order(1025), BUDDY_ORDERS);
    assert_int_equal(buddy_order(SIZE_MAX), BUDDY_ORDERS);
    assert_int_equal(buddy_allocate(&buddy, BUDDY_ORDERS), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(hands_out_every_frame_once),
        TEST(merges_what_is_freed),
        TEST(partial_frames_and_frame_0_are_left_out),
        TEST(a_wrong_free_is_refused),
        TEST(a_write_after_free_is_found),
        TEST(survives_any_sequence),
        TEST(no_two_cpus_get_the_same_frame),
        TEST(orders),
    };
    return cmocka_run_group_tests_name("buddy", tests, NULL, NULL);
}
