/* SPDX-License-Identifier: BSD-2-Clause */
/* Only of the CPU that calls: no page is unmapped yet that another CPU still
 * uses. */
#include "smp/tlb.h"

#include "cpu/cpu.h"
#include "mm/layout.h"

void tlb_shootdown(uint64_t start, uint64_t end)
{
    for (uint64_t at = start; at < end; at += PAGE_SIZE)
        invlpg((void *)at);
}
