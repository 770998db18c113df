/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/delays.h"

#include "cpu/cpu.h"

#define FAMILY_P6 6
#define FAMILY_K8 15

/* The second SIPI stays: it is ignored by a CPU that has started, and a lost
 * first one costs an AP otherwise. */
static const struct delays as_specified = {10000, 200, true};
static const struct delays modern = {0, 10, true};

const struct delays *delays_of_this_cpu(void)
{
    uint32_t signature = cpuid(CPUID_FEATURES, 0).eax;
    uint32_t family = signature >> 8 & 15;
    if (family == 15)
        family += signature >> 20 & 255;
    bool intel = cpuid(0, 0).ebx == 0x756e6547; /* "Genu" */
    bool amd = cpuid(0, 0).ebx == 0x68747541;   /* "Auth" */
    bool no_wait =
        (intel && family == FAMILY_P6) || (amd && family >= FAMILY_K8);
    return no_wait ? &modern : &as_specified;
}
