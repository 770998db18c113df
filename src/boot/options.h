/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel command line: words of the form name or name=value, separated by
 * spaces.  docs/boot-options.md is made from choices.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smp_mode { SMP_PARALLEL, SMP_SERIAL, SMP_BROADCAST, SMP_OFF };
enum apic_mode { APIC_AUTO, APIC_XAPIC, APIC_X2APIC };

struct options {
    enum smp_mode smp;
    enum apic_mode apic;
    uint64_t trampoline; /* 0: TRAMPOLINE_DEFAULT, or another free page */
    uint32_t sinks;      /* TRACE_SINK_* */
    uint32_t selftest;   /* 0 or 1 */
    uint32_t workload;   /* 0 or 1 */
    uint64_t maxcpus;    /* 0: as many as there are */
};

/* Parse `cmdline` into *to.  Returns true, or false with a sentence in
 * `error` that names the word and what was expected. */
bool options_parse(struct options *to, const char *cmdline, char *error,
                   size_t error_size);
