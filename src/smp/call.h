/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one CPU asks of another: to run a function, or to wake up.
 *
 * A CPU that waits for an answer serves what others ask of it meanwhile, so
 * two that call each other both go on.  What is called runs with interrupts
 * off and must not call in its turn; who calls must hold no lock that the
 * called CPU may be waiting for.
 */
#pragma once

#include <stdbool.h>

/* As long as nobody answers anybody; any answer starts it anew.  With more
 * vCPUs than host cores a CPU can wait a second for its turn. */
#define ANSWER_DEADLINE_US 5000000

/* The CPU that calls takes interrupts from now on: the others may count on
 * its answer.  After the scheduler gate, interrupts still off. */
void smp_listen(void);
bool smp_listens(unsigned cpu);

/* Run fn(arg) on a CPU, and return when it has.  False, with a message, if
 * that CPU does not take calls; a panic that names it if it does not answer. */
bool smp_call(unsigned cpu, void (*fn)(void *arg), void *arg);

/* The same on every CPU that takes calls, the calling one included. */
void smp_call_all(void (*fn)(void *arg), void *arg);

/* The same on one after the other; returns how many CPUs take calls. */
unsigned smp_call_each(void (*fn)(void *arg), void *arg);

/* Wake a CPU that has halted: it runs sched_ipi().  Refused with a message
 * if it takes no interrupts. */
void smp_wake(unsigned cpu);

/* Do what the others have asked of this CPU; interrupts off. */
void smp_serve(void);
