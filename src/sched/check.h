/* SPDX-License-Identifier: BSD-2-Clause */
/* Self-tests of what threads and CPUs do together, on all CPUs at once: each
 * says whether its claim holds.  Called outside of threads, on the BSP. */
#pragma once

#include <stdbool.h>

bool spinlock_excludes(void);
bool barrier_opens_again_and_again(void);
bool threads_come_and_go(void);
bool every_cpu_runs_threads(void);
bool mutex_excludes_and_sleeps(void);
bool no_wake_up_is_lost(void);
bool sleepers_wake_in_time(void);
bool tick_preempts(void);
bool workload_is_right(void);
