/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Checks of what the boot made true, in the KTAP format:
 *   ok 3 - every stack is mapped, aligned and its CPU's own
 */
#include "selftest.h"

#include "apic/apic.h"
#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/string.h"
#include "mm/paging.h"
#include "mm/stacks.h"
#include "smp/lcpu.h"
#include "smp/phases.h"
#include "smp/trampoline.h"

static const struct options *options;
static unsigned online;
static uint64_t trampoline;

static unsigned usable_cpus(void)
{
    return options->smp == SMP_OFF ? 1 : lcpu_count;
}

static bool all_online(void)
{
    return online == usable_cpus();
}

static bool none_left_alone(void)
{
    return !lcpus_left_alone;
}

static bool bsp_is_cpu_0(void)
{
    return this_cpu()->lcpu == &lcpus[0] && lcpus[0].id == apic_id();
}

static bool ids_are_distinct(void)
{
    for (unsigned i = 0; i < lcpu_count; i++)
        for (unsigned j = 0; j < i; j++)
            if (lcpus[i].id == lcpus[j].id)
                return false;
    return true;
}

static bool stacks_are_sound(void)
{
    for (unsigned i = 1; i < usable_cpus(); i++) {
        uint64_t top = lcpus[i].stack;
        if (top % STACK_SIZE || top != stacks_of(i).top)
            return false;
        /* The trampoline pushed a null return address first. */
        if (((const uint64_t *)top)[-1] != 0)
            return false;
    }
    return true;
}

static bool percpu_is_own(void)
{
    for (unsigned i = 0; i < usable_cpus(); i++)
        if (percpu_of(i)->self != percpu_of(i) ||
            percpu_of(i)->lcpu != &lcpus[i])
            return false;
    return true;
}

static bool fpu_is_on(void)
{
    uint64_t cr4 = read_cr4();
    bool xsave = cpuid(CPUID_FEATURES, 0).ecx & CPUID_1_ECX_XSAVE;
    return cr4 & CR4_OSFXSR && (!xsave || cr4 & CR4_OSXSAVE);
}

static bool page_is_writable(void)
{
    return low_memory_is_writable(trampoline);
}

static bool copy_is_intact(void)
{
    return trampoline_is_intact(trampoline);
}

static bool cr3_is_sane(void)
{
    return trampoline_cr3_is_sane(trampoline);
}

static bool states_changed(void)
{
    return options->smp == SMP_OFF || ap_states_changed();
}

static bool low_memory_is_unmapped(void)
{
    if (options->smp == SMP_BROADCAST || online < lcpu_count)
        return true; /* somebody may be parked in the trampoline */
    return !paging_is_mapped(trampoline) && !paging_is_mapped(0);
}

static const struct check boot_checks[] = {
    {"every CPU that has a block is online", all_online},
    {"every usable CPU has a block", none_left_alone},
    {"the BSP is CPU 0 and its APIC ID is the one in its block", bsp_is_cpu_0},
    {"no two CPUs have the same APIC ID", ids_are_distinct},
    {"phase 4, stacks: every stack is aligned, mapped and was entered by its "
     "CPU",
     stacks_are_sound},
    {"phase 5, per-CPU data: every CPU's GS base leads to its own data",
     percpu_is_own},
    {"SSE is on, and XSAVE where CPUID has it", fpu_is_on},
    {"phase 2, low memory: the trampoline's page can be written",
     page_is_writable},
    {"phase 3, page tables: the APs' CR3 is the kernel's and 32 bits hold it",
     cr3_is_sane},
    {"phase 6, relocation: the trampoline's copy is intact", copy_is_intact},
    {"phase 7, IPIs: every AP's state went from offline to working in the "
     "scheduler",
     states_changed},
    {"the trampoline's page is mapped no more", low_memory_is_unmapped},
    {0},
};

/* In this order: the IPIs' checks need APs that are at work. */
static const struct check *const parts[] = {
    boot_checks, memory_checks, ipi_checks,
    cpu_checks,  time_checks,   sched_checks,
};

static unsigned count_checks(void)
{
    unsigned count = 0;
    for (unsigned part = 0; part < sizeof parts / sizeof *parts; part++)
        for (const struct check *check = parts[part]; check->claim; check++)
            count++;
    return count;
}

enum exit_code selftest_run(const struct options *o, unsigned cpus,
                            uint64_t page)
{
    options = o;
    online = cpus;
    trampoline = page;
    unsigned count = count_checks(), done = 0, failed = 0;
    console_printf("KTAP version 1\n1..%u\n", count);
    for (unsigned part = 0; part < sizeof parts / sizeof *parts; part++)
        for (const struct check *check = parts[part]; check->claim; check++) {
            bool ok = check->holds();
            failed += !ok;
            console_printf("%sok %u - %s\n", ok ? "" : "not ", ++done,
                           check->claim);
        }
    console_printf("# %u passed, %u failed\n", count - failed, failed);
    if (failed && lcpus_left_alone)
        return EXIT_TOO_MANY_CPUS;
    if (failed)
        return online < usable_cpus() ? EXIT_MISSING_CPU : EXIT_SELFTEST_FAILED;
    return EXIT_OK;
}
