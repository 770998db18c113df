/* SPDX-License-Identifier: BSD-2-Clause */
/* What each CPU's descriptors and MSRs claim: a trip to ring 3 and back. */
#include "cpu/percpu.h"
#include "cpu/probe.h"
#include "cpu/ring3.h"
#include "lib/string.h"
#include "mm/frames.h"
#include "mm/paging.h"
#include "mm/stacks.h"
#include "selftest.h"
#include "smp/call.h"

static unsigned trips, good;

static bool is_good(const struct ring3_trip *trip)
{
    uint64_t end = USER_BASE + (uint64_t)(ring3_program_end - ring3_program);
    const struct trap_frame *f = &trip->frame;
    return trip->question == RING3_QUESTION &&
           trip->answer == ~(uint64_t)RING3_QUESTION &&
           f->vector == VECTOR_RING3 && f->cs == SELECTOR_USER_CODE &&
           f->ss == SELECTOR_USER_DATA && f->rsp == USER_BASE + PAGE_SIZE &&
           f->rip > USER_BASE && f->rip < end && !(f->rflags & RFLAGS_IF) &&
           trip->frame_top == trip->rsp0;
}

static void go_to_ring_3(void *unused)
{
    (void)unused;
    struct ring3_trip trip = {0};
    ring3_run(USER_BASE, USER_BASE + PAGE_SIZE, &trip);
    trips++;
    good += is_good(&trip);
}

static bool ring_3_and_back(void)
{
    uint64_t frame = frames_allocate(1);
    memcpy(phys_to_virt(frame), ring3_program,
           (size_t)(ring3_program_end - ring3_program));
    paging_map(USER_BASE, frame, PAGE_USER);
    trips = good = 0;
    unsigned expected = smp_call_each(go_to_ring_3, NULL);
    paging_unmap(USER_BASE);
    frames_free(frame, 1);
    return trips == expected && good == expected;
}

static bool user_page_is_gone(void)
{
    uint64_t value;
    return !paging_is_mapped(USER_BASE) &&
           !probe_read((const uint64_t *)USER_BASE, &value);
}

static bool ist_stacks_are_own(void)
{
    for (unsigned cpu = 0; cpu < lcpu_count; cpu++) {
        struct stacks stacks = stacks_of(cpu);
        for (int i = 0; smp_listens(cpu) && i < IST_COUNT - 1; i++)
            if (percpu_of(cpu)->tables.tss.ist[i] != stacks.ist[i] ||
                !paging_is_mapped(stacks.ist[i] - 1))
                return false;
    }
    return true;
}

const struct check cpu_checks[] = {
    {"each CPU's TSS has stacks of its own for #DF, NMI and #MC",
     ist_stacks_are_own},
    {"each CPU went to ring 3 and back: SYSCALL, SYSRET, RSP0, swapgs",
     ring_3_and_back},
    {"the page of ring 3 is gone, and reading it faults", user_page_is_gone},
    {0},
};
