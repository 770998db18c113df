/* SPDX-License-Identifier: BSD-2-Clause */
/* The barrier: nobody leaves early, all see what all did, it works again. */
#include "machine.h"

#include "smp/barrier.h"

#define CPUS   5
#define ROUNDS 2000

unsigned lcpu_count = CPUS;

static struct barrier barrier;
/* Plain: each written by its CPU between two meetings, read by all after. */
static unsigned progress[CPUS];
static _Atomic unsigned last_ones, early;

static void meet(unsigned cpu)
{
    for (unsigned round = 1; round <= ROUNDS; round++) {
        progress[cpu] = round;
        if (barrier_wait(&barrier))
            last_ones++;
        for (unsigned i = 0; i < CPUS; i++)
            early += progress[i] != round;
        barrier_wait(&barrier);
    }
}

static void opens_when_all_are_there_again_and_again(void **state)
{
    become_cpu(0);
    machine_forget();
    last_ones = early = 0;
    barrier_init(&barrier, "test", CPUS);
    assert_int_equal(on_cpus(CPUS, meet), 0);
    assert_int_equal(early, 0);
    assert_int_equal(last_ones, ROUNDS);
}

/* CPU 2 never comes; CPU 4 comes when the others are there, and its patience
 * is short. */
static void come(unsigned cpu)
{
    if (cpu == 2)
        return;
    while (cpu == 4 && barrier.missing > 2)
        pause();
    host_cycles_per_us = cpu == 4 ? 1 : host_cycles_per_us;
    barrier_wait(&barrier);
}

static void who_does_not_come_is_named(void **state)
{
    machine_forget();
    barrier_init(&barrier, "late", CPUS);
    assert_int_equal(on_cpus(CPUS, come), CPUS - 1);
    assert_non_null(strstr(host_console, "\"late\": 1 of 5 CPUs"));
    assert_non_null(strstr(host_console, "CPU 2 is missing"));
    assert_non_null(strstr(host_console, "CPU 3 arrived"));
}

static void through_the_gate(unsigned cpu)
{
    if (cpu == 0)
        rendezvous_open(CPUS);
    rendezvous();
    if (cpu == 0) {
        progress[0] = 7;
        scheduler_gate_open();
    }
    scheduler_gate_wait();
    early += progress[0] != 7;
}

static void the_gate_opens_once_for_all(void **state)
{
    machine_forget();
    early = 0;
    assert_int_equal(on_cpus(CPUS, through_the_gate), 0);
    assert_int_equal(early, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_when_all_are_there_again_and_again),
        cmocka_unit_test(who_does_not_come_is_named),
        cmocka_unit_test(the_gate_opens_once_for_all),
    };
    return cmocka_run_group_tests_name("barrier", tests, NULL, NULL);
}
