/* SPDX-License-Identifier: BSD-2-Clause */
/* The ticket lock: it excludes, and what would never end is a panic that
 * names lock, holder and waiter. */
#include "machine.h"

#include <stdatomic.h>

#include "smp/spinlock.h"

#define CPUS   4
#define ROUNDS 5000

static struct spinlock a = SPINLOCK("a"), b = SPINLOCK("b"), c = SPINLOCK("c");
static unsigned long sum; /* plain: the lock alone protects it */

static void begin(void)
{
    become_cpu(0);
    machine_forget();
    a = (struct spinlock)SPINLOCK("a");
    b = (struct spinlock)SPINLOCK("b");
    c = (struct spinlock)SPINLOCK("c");
    sum = 0;
}

static void count(unsigned cpu)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t flags = spin_lock_irq(&a);
        sum++;
        spin_unlock_irq(&a, flags);
    }
}

static void excludes(void **state)
{
    begin();
    assert_int_equal(on_cpus(CPUS, count), 0);
    assert_int_equal(sum, CPUS * ROUNDS);
}

/* Many waits, all in one order: no deadlock must be seen. */
static void nest(unsigned cpu)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct spinlock *outer = (i + cpu) % 3 ? &a : &b;
        spin_lock(outer);
        spin_lock(&c);
        sum++;
        spin_unlock(&c);
        spin_unlock(outer);
    }
}

static void nests_in_one_order(void **state)
{
    begin();
    assert_int_equal(on_cpus(CPUS, nest), 0);
    assert_int_equal(sum, CPUS * ROUNDS);
}

static void keeps_interrupts_and_preemption(void **state)
{
    begin();
    uint64_t flags = spin_lock_irq(&a);
    assert_true(spin_is_mine(&a));
    assert_int_equal(host_rflags & RFLAGS_IF, 0);
    assert_int_equal(this_cpu()->preemption_offs, 1);
    spin_lock(&b);
    spin_unlock(&b);
    spin_unlock_irq(&a, flags);
    assert_false(spin_is_mine(&a));
    assert_int_equal(host_rflags & RFLAGS_IF, RFLAGS_IF);
    assert_int_equal(this_cpu()->preemption_offs, 0);
}

static void misuse_panics(void **state)
{
    begin();
    spin_lock(&a);
    assert_panics(spin_lock(&a), "deadlock: CPU 0 takes lock \"a\"");
    assert_panics(spin_unlock(&b), "gives back lock \"b\"");
    become_cpu(1);
    assert_panics(spin_unlock(&a), "which CPU 0 holds");
}

static void in_handler(struct spinlock *lock)
{
    uint64_t flags = interrupts_save();
    this_cpu()->in_handler = true;
    spin_lock(lock);
    spin_unlock(lock);
    this_cpu()->in_handler = false;
    interrupts_restore(flags);
}

static void a_handlers_lock_needs_interrupts_off(void **state)
{
    begin();
    in_handler(&a);
    uint64_t flags = spin_lock_irq(&a);
    spin_unlock_irq(&a, flags);
    assert_panics(spin_lock(&a), "and with interrupts on");
    begin();
    spin_lock(&a);
    spin_unlock(&a);
    assert_panics(in_handler(&a), "is taken in an interrupt handler");
}

/* CPU i takes lock i, waits until all have theirs, and takes the next. */
static _Atomic unsigned have_theirs;

static void take_two(unsigned cpu)
{
    struct spinlock *const locks[] = {&a, &b, &c};
    spin_lock(locks[cpu]);
    have_theirs++;
    while (have_theirs < 3)
        pause();
    spin_lock(locks[(cpu + 1) % 3]);
}

static void a_circle_is_reported(void **state)
{
    begin();
    have_theirs = 0;
    assert_int_equal(on_cpus(3, take_two), 3);
    const char *said[] = {
        "each CPU above holds what another one waits for",
        "CPU 0 waits for lock \"b\"",
        "CPU 1 waits for lock \"c\"",
        "CPU 2 waits for lock \"a\"",
    };
    for (unsigned i = 0; i < 4; i++)
        assert_non_null(strstr(host_console, said[i]));
    assert_non_null(strstr(host_console, "is held by CPU 0"));
}

static void keep(unsigned cpu)
{
    host_cycles_per_us = 1;
    spin_lock(&a); /* the first keeps it */
}

static void a_lock_that_is_kept_is_reported(void **state)
{
    begin();
    assert_int_equal(on_cpus(2, keep), 1);
    assert_non_null(strstr(host_console, "\"a\" was not given back"));
    assert_non_null(strstr(host_console, "is held by CPU "));
    assert_non_null(strstr(host_console, " waits for lock \"a\""));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(excludes),
        cmocka_unit_test(nests_in_one_order),
        cmocka_unit_test(keeps_interrupts_and_preemption),
        cmocka_unit_test(misuse_panics),
        cmocka_unit_test(a_handlers_lock_needs_interrupts_off),
        cmocka_unit_test(a_circle_is_reported),
        cmocka_unit_test(a_lock_that_is_kept_is_reported),
    };
    return cmocka_run_group_tests_name("spinlock", tests, NULL, NULL);
}
