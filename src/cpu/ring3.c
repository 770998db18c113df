/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/ring3.h"

#include "cpu/percpu.h"
#include "trace/stage.h"

/* src/cpu/ring3.asm */
void ring3_enter(uint64_t entry, uint64_t stack);
_Noreturn void ring3_leave(void);
extern const char syscall_entry[];
uint64_t syscall_handle(uint64_t argument);

/* SYSCALL loads CS from STAR[47:32] and SS 8 higher; SYSRET CS 16 and SS 8
 * above STAR[63:48]. */
#define SYSRET_BASE (SELECTOR_USER_DATA - 8)
_Static_assert(SELECTOR_DATA == SELECTOR_CODE64 + 8, "SYSCALL's SS");
_Static_assert(SELECTOR_USER_CODE == SYSRET_BASE + 16, "SYSRET's CS");

void ring3_init(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR,
          (uint64_t)SYSRET_BASE << 48 | (uint64_t)SELECTOR_CODE64 << 32);
    wrmsr(MSR_LSTAR, (uint64_t)syscall_entry);
    wrmsr(MSR_FMASK, RFLAGS_IF | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC);
}

void ring3_run(uint64_t entry, uint64_t stack, struct ring3_trip *trip)
{
    this_cpu()->trip = trip;
    STAGE(RING3_ENTERING);
    ring3_enter(entry, stack);
    STAGE(RING3_BACK);
    trip->rsp0 = this_cpu()->tables.tss.rsp[0];
    this_cpu()->trip = NULL;
}

uint64_t syscall_handle(uint64_t argument)
{
    STAGE(RING3_SYSCALL);
    if (!this_cpu()->trip)
        return 0;
    this_cpu()->trip->question = (uint32_t)argument;
    return ~argument;
}

void ring3_interrupt(struct trap_frame *frame)
{
    struct ring3_trip *trip = this_cpu()->trip;
    trip->answer = frame->rax;
    trip->frame = *frame;
    trip->frame_top = (uint64_t)(frame + 1);
    ring3_leave();
}
