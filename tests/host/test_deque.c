/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The deque: no task is lost or done twice, and who gets one sees all of it.
 *
 * test_host.py also builds this with one order of src/sched/deque.c weakened,
 * and wants it to fail.
 */
#include "test.h"

#include <pthread.h>
#include <sched.h>

#include "sched/deque.h"

/* What the owner writes before each take: the thieves write there too, so
 * that it waits for the cache lines, and its store to bottom behind them. */
#define NOISE   24
#define THIEVES 2
#define BURST   3 /* tasks at a time: the race is for the last ones */
#define BURSTS  20000
#define TASKS   (BURST * BURSTS)
/* Bursts of which a thief got a part: on a busy host threads often do not
 * run at the same time, and those bursts show nothing.  Without its order
 * take() fails in 3 of 100 contested ones. */
#define CONTESTED 10000

struct task {
    uint64_t payload; /* plain: published by the deque alone */
    _Atomic unsigned done;
};

static struct deque deque;
static struct task tasks[TASKS];
static _Atomic bool finished;
static _Atomic unsigned rounds[THIEVES];
static unsigned lost, repeated;
static _Atomic unsigned unpublished;
static struct {
    _Atomic unsigned word __attribute__((aligned(64)));
} noise[NOISE];

static void make_noise(unsigned value)
{
    for (unsigned i = 0; i < NOISE; i++)
        atomic_store_explicit(&noise[i].word, value, memory_order_relaxed);
}

static void perform(struct task *task)
{
    if (task->payload != (uintptr_t)task)
        unpublished++;
    atomic_fetch_add_explicit(&task->done, 1, memory_order_relaxed);
}

static void *thief(void *argument)
{
    while (!atomic_load_explicit(&finished, memory_order_acquire)) {
        struct task *task = deque_steal(&deque);
        if (task)
            perform(task);
        else
            make_noise(1);
        /* Release pairs with the acquire in wait_for_thieves(). */
        atomic_fetch_add_explicit((_Atomic unsigned *)argument, 1,
                                  memory_order_release);
    }
    return NULL;
}

/* Until none has a task in its hands. */
static void wait_for_thieves(void)
{
    for (unsigned i = 0; i < THIEVES; i++) {
        unsigned before = rounds[i];
        while (atomic_load_explicit(&rounds[i], memory_order_acquire) - before <
               2)
            sched_yield();
    }
}

/* How many bursts were contested. */
static unsigned run_once(void)
{
    unsigned contested = 0;
    for (unsigned i = 0; i < TASKS;) {
        for (unsigned j = 0; j < BURST; j++, i++) {
            tasks[i].payload = (uintptr_t)&tasks[i];
            assert_true(deque_push(&deque, &tasks[i]));
        }
        make_noise(2);
        unsigned mine = 0;
        for (struct task *task; (task = deque_take(&deque)); mine++)
            perform(task);
        contested += mine < BURST;
    }
    wait_for_thieves();
    for (unsigned i = 0; i < TASKS; i++) {
        lost += tasks[i].done == 0;
        repeated += tasks[i].done > 1;
        tasks[i].payload = tasks[i].done = 0;
    }
    return contested;
}

static void each_task_is_done_once(void **state)
{
    pthread_t threads[THIEVES];
    for (unsigned i = 0; i < THIEVES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thief, &rounds[i]),
                         0);
    for (unsigned contested = 0;
         contested < CONTESTED && !lost && !repeated && !unpublished;)
        contested += run_once();
    atomic_store_explicit(&finished, true, memory_order_release);
    for (unsigned i = 0; i < THIEVES; i++)
        pthread_join(threads[i], NULL);
    if (lost || repeated || unpublished)
        fail_msg("%u tasks lost, %u done twice, %u unpublished", lost, repeated,
                 unpublished);
}

static void takes_the_newest_steals_the_oldest(void **state)
{
    static struct deque d;
    char tasks[4];
    assert_null(deque_take(&d));
    assert_null(deque_steal(&d));
    assert_true(deque_is_empty(&d));
    for (unsigned i = 0; i < 4; i++)
        assert_true(deque_push(&d, &tasks[i]));
    assert_false(deque_is_empty(&d));
    assert_ptr_equal(deque_take(&d), &tasks[3]);
    assert_ptr_equal(deque_steal(&d), &tasks[0]);
    assert_ptr_equal(deque_steal(&d), &tasks[1]);
    assert_ptr_equal(deque_take(&d), &tasks[2]);
    assert_null(deque_take(&d));
    assert_null(deque_steal(&d));
}

static void refuses_when_full_and_goes_round(void **state)
{
    static struct deque d;
    static char tasks[DEQUE_SLOTS + 1];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < DEQUE_SLOTS; i++)
            assert_true(deque_push(&d, &tasks[i]));
        assert_false(deque_push(&d, &tasks[DEQUE_SLOTS]));
        assert_ptr_equal(deque_steal(&d), &tasks[0]);
        assert_true(deque_push(&d, &tasks[DEQUE_SLOTS]));
        for (unsigned i = 1; i <= DEQUE_SLOTS; i++)
            assert_ptr_equal(deque_steal(&d), &tasks[i]);
        assert_true(deque_is_empty(&d));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_newest_steals_the_oldest),
        cmocka_unit_test(refuses_when_full_and_goes_round),
        cmocka_unit_test(each_task_is_done_once),
    };
    return cmocka_run_group_tests_name("deque", tests, NULL, NULL);
}
