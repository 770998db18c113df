/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What code that asks for its CPU, locks and panics runs on here: threads of
 * the host as CPUs (machine/cpu replaces src/cpu), and a panic that ends the
 * thread or comes back to the test.
 */
#pragma once

#include "test.h"

#include <string.h>

#include "cpu/percpu.h"

/* The thread is the CPU with this index from now on, interrupts on. */
void become_cpu(unsigned index);

/* Run `function` on `count` threads as CPUs 0 ... count - 1, wait for them;
 * the number of them that panicked. */
unsigned on_cpus(unsigned count, void (*function)(unsigned cpu));

/* What panic() and console_printf() said since the last machine_forget(). */
extern char host_console[4096];
void machine_forget(void);

/* Fewer make this thread's deadlines shorter. */
extern _Thread_local uint64_t host_cycles_per_us;

/* A panic in `statement` of this thread, whose text holds `text`. */
#define assert_panics(statement, text)                                         \
    do {                                                                       \
        machine_forget();                                                      \
        jmp_buf come_back;                                                     \
        host_panic = &come_back;                                               \
        if (!setjmp(come_back)) {                                              \
            statement;                                                         \
            fail_msg("no panic: %s", #statement);                              \
        }                                                                      \
        host_panic = NULL;                                                     \
        assert_non_null(strstr(host_console, text));                           \
    } while (0)
extern _Thread_local jmp_buf *host_panic;
