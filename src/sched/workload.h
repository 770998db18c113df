/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Work for all CPUs, whose result is known: how many ways there are to place
 * QUEENS queens on a board so that none attacks another.  A thread for each
 * placement of the first rows; each thread joins those that it started.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct workload {
    uint64_t items;    /* placements that were tried */
    uint64_t most;     /* of them, by the busiest CPU */
    uint64_t steals;   /* threads that another CPU took over */
    uint64_t switches; /* between threads */
    uint64_t cycles;   /* TSC */
    bool right;        /* the result is the known one */
};

/* On CPUs 0 to `cpus` - 1. */
struct workload workload_run(unsigned cpus);

/* On 1, 2, 4 ... `cpus` CPUs, with a table of what each number brings: items
 * over those of the busiest CPU is how many times faster it could be, on
 * whatever host. */
void workload_report(unsigned cpus);
