/* SPDX-License-Identifier: BSD-2-Clause */
/* Sending interrupts to other CPUs, and waiting for what they answer. */
#pragma once

#include <stdbool.h>

#include "cpu/vectors.h"
#include "smp/cpuset.h"

/* To a CPU that listens; a failure to send is told on the console. */
void ipi_send(unsigned cpu, enum vector vector);

/* Every CPU that listens, but the one that calls. */
void ipi_listeners(struct cpuset *to);

/* The CPU that calls has answered another: the waits of all begin anew. */
void ipi_answer_given(void);

/*
 * Wait until each CPU in `from` has answered, serving what the others ask of
 * this one; interrupts are off.  If meanwhile no CPU gives any other an answer
 * for ANSWER_DEADLINE_US, who is waited for is named in a panic, with `what`.
 */
void ipi_await(const char *what, const struct cpuset *from,
               bool (*answered)(unsigned cpu));
