/* SPDX-License-Identifier: BSD-2-Clause */
/* Wait queues and mutexes over threads that stop and go on as sched.c makes
 * them: no wake-up is lost, a mutex excludes and is fair, misuse panics. */
#include "machine.h"

#include "lib/panic.h"
#include "sched/sched.h"
#include "sched/thread.h"
#include "time/tsc.h"

#define CPUS   4
#define ROUNDS 2000
/* After so long a wake-up is lost. */
#define LOST_US 60000000

static _Thread_local struct thread *current;
static struct thread threads[CPUS];

struct thread *thread_current(void)
{
    return current;
}

void sched_wait(struct spinlock *lock)
{
    uint64_t deadline = deadline_in(LOST_US);
    struct thread *me = current;
    atomic_store_explicit(&me->state, THREAD_WAITING, memory_order_relaxed);
    spin_unlock(lock);
    while (atomic_load_explicit(&me->state, memory_order_acquire) ==
           THREAD_WAITING) {
        pause();
        if (deadline_passed(deadline))
            panic("thread %u is not woken", me->id);
    }
}

void sched_wake(struct thread *thread)
{
    atomic_store_explicit(&thread->state, THREAD_RUNNABLE,
                          memory_order_release);
}

static void be_thread(unsigned i)
{
    threads[i].id = i + 1;
    threads[i].name = "test";
    current = &threads[i];
}

static struct mutex mutex;
static struct wait_queue queue;
static unsigned long sum; /* plain: protected by what is tested */

static void begin(void)
{
    become_cpu(0);
    machine_forget();
    be_thread(0);
    mutex = (struct mutex)MUTEX("m");
    queue = (struct wait_queue)WAIT_QUEUE("q");
    sum = 0;
}

static void count(unsigned cpu)
{
    be_thread(cpu);
    for (unsigned i = 0; i < ROUNDS; i++) {
        mutex_lock(&mutex);
        unsigned long before = sum;
        if (i % 64 == cpu)
            pause();
        sum = before + 1;
        mutex_unlock(&mutex);
    }
}

static void a_mutex_excludes(void **state)
{
    begin();
    assert_int_equal(on_cpus(CPUS, count), 0);
    assert_int_equal(sum, CPUS * ROUNDS);
    assert_null(mutex.owner);
    assert_null(mutex.waiters.first);
}

/* Plain: the next one in line writes its number where the last one ended. */
static unsigned order[CPUS], arrived;

static void stand_in_line(unsigned cpu)
{
    be_thread(cpu);
    /* CPU 0 has it; the others come one after the other. */
    for (bool mine = false; !mine;) {
        uint64_t flags = spin_lock_irq(&mutex.waiters.lock);
        unsigned waiting = 0;
        for (struct thread *t = mutex.waiters.first; t; t = t->next)
            waiting++;
        mine = cpu ? mutex.owner && waiting == cpu - 1 : !mutex.owner;
        spin_unlock_irq(&mutex.waiters.lock, flags);
        pause();
    }
    mutex_lock(&mutex);
    order[arrived++] = cpu;
    for (bool all = cpu; !all;) {
        uint64_t flags = spin_lock_irq(&mutex.waiters.lock);
        all = mutex.waiters.last == &threads[CPUS - 1];
        spin_unlock_irq(&mutex.waiters.lock, flags);
        pause();
    }
    mutex_unlock(&mutex);
}

static void a_mutex_is_given_in_order(void **state)
{
    begin();
    arrived = 0;
    assert_int_equal(on_cpus(CPUS, stand_in_line), 0);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(order[i], i);
}

/* A buffer for one number, half of the threads on each side. */
static unsigned long slot;

static void pass_numbers(unsigned cpu)
{
    be_thread(cpu);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        uint64_t flags = spin_lock_irq(&queue.lock);
        if (cpu % 2) {
            while (slot)
                wait_sleep(&queue);
            slot = i;
        } else {
            while (!slot)
                wait_sleep(&queue);
            sum += slot;
            slot = 0;
        }
        wait_wake_all(&queue);
        spin_unlock_irq(&queue.lock, flags);
    }
}

static void no_wake_up_is_lost(void **state)
{
    begin();
    slot = 0;
    assert_int_equal(on_cpus(CPUS, pass_numbers), 0);
    assert_int_equal(sum, CPUS / 2 * (ROUNDS * (ROUNDS + 1ul) / 2));
}

static void one_is_woken_at_a_time_the_first_first(void **state)
{
    begin();
    assert_null(wait_wake(&queue));
    for (unsigned i = 0; i < 2; i++) { /* as wait_sleep() leaves them */
        threads[i].waits_in = &queue;
        threads[i].next = i ? NULL : &threads[1];
    }
    queue.first = &threads[0];
    queue.last = &threads[1];
    assert_ptr_equal(wait_wake(&queue), &threads[0]);
    assert_ptr_equal(wait_wake(&queue), &threads[1]);
    assert_null(wait_wake(&queue));
    assert_null(threads[1].waits_in);
}

static void misuse_panics(void **state)
{
    begin();
    assert_panics(mutex_unlock(&mutex), "gives back mutex \"m\"");
    begin();
    mutex_lock(&mutex);
    assert_panics(mutex_lock(&mutex), "deadlock: thread 1 \"test\" takes");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mutex_excludes),
        cmocka_unit_test(a_mutex_is_given_in_order),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(one_is_woken_at_a_time_the_first_first),
        cmocka_unit_test(misuse_panics),
    };
    return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
