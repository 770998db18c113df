/* SPDX-License-Identifier: BSD-2-Clause */
/* Trace records as a CPU would make them: the prefix that the assembler
 * (TRACE_IDENTIFY in trampoline/stage.inc) writes, in C. */
#pragma once

#include <stdio.h>
#include <string.h>

#include "trace/stage.h"

static inline uint8_t sum_of(const char *text, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)((uint8_t)(sum << 1 | sum >> 7) ^ (uint8_t)text[i]);
    return sum;
}

static inline void identify(struct trace_ap_record *r, uint32_t apic_id,
                            uint32_t slot)
{
    memset(r, 0, sizeof *r);
    char prefix[TRACE_FRAME_MAX];
    int length = snprintf(prefix, sizeof prefix,
                          apic_id < 0x100 ? "@%02x:" : "@%08x:", apic_id);
    memcpy(r->header.frame, prefix, (size_t)length);
    r->header.prefix_len = (uint8_t)length;
    r->header.prefix_sum = sum_of(prefix + 1, (size_t)length - 1);
    r->header.apic_id = apic_id;
    r->header.owner = slot + 1;
    r->header.entries = (uint64_t)(uintptr_t)r->entries;
    r->header.capacity = TRACE_AP_ENTRIES;
}
