/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long the BSP waits in INIT-SIPI-SIPI.  The MP specification asks for
 * 10 ms and 200 µs; CPUs since the Pentium Pro and the K8 need neither, and
 * take one SIPI.  [MP 1.4 "B.4 Application Processor Startup"]
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* An AP needs microseconds; under emulation with more vCPUs than host cores,
 * hundreds of milliseconds.  Too short blames APs that are on their way. */
#define ARRIVAL_DEADLINE_US 2000000

/* Who has come online goes on within milliseconds; a busy host may not. */
#define GOING_ON_DEADLINE_US 10000000

struct delays {
    uint32_t after_init_us;
    uint32_t after_sipi_us;
    bool second_sipi;
};

const struct delays *delays_of_this_cpu(void);
