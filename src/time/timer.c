/* SPDX-License-Identifier: BSD-2-Clause */
/* [SDM 3A "APIC Timer"] */
#include "time/timer.h"

#include "apic/apic.h"
#include "cpu/percpu.h"
#include "lib/exit.h"
#include "sched/sched.h"
#include "time/tsc.h"

#define LVT_MASKED       (1u << 16)
#define LVT_TSC_DEADLINE (2u << 17) /* else one-shot */
#define DIVIDE_BY_1      0xbu

#define CALIBRATE_US 1000
/* How long the first tick may take, on an emulator that runs other CPUs. */
#define PROVE_US 1000000

static bool has_deadline;
static uint64_t apic_khz; /* without a TSC deadline */
static uint64_t period;   /* TSC cycles */

/* One interrupt at `deadline`, or at once if that is past. */
static void arm(uint64_t deadline)
{
    if (has_deadline) {
        wrmsr(MSR_TSC_DEADLINE, deadline);
        return;
    }
    int64_t left = (int64_t)(deadline - rdtsc());
    uint64_t count = left > 0 ? (uint64_t)left * apic_khz / tsc_khz() : 0;
    apic_write(APIC_TIMER_INITIAL,
               count > UINT32_MAX ? UINT32_MAX : (uint32_t)count + 1);
}

static void set_lvt(uint32_t lvt)
{
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, lvt);
    /* The mode must be set before the deadline is. */
    __asm__ volatile("mfence" : : : "memory");
}

static uint32_t current_count(void)
{
    return apic_read(APIC_TIMER_CURRENT);
}

void timer_init(void)
{
    has_deadline = cpuid(CPUID_FEATURES, 0).ecx & CPUID_1_ECX_DEADLINE;
    period = tsc_cycles(1000000 / TICK_HZ);
    if (has_deadline)
        return;
    set_lvt(LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, UINT32_MAX);
    struct reading first = clock_read(current_count);
    udelay(CALIBRATE_US);
    struct reading last = clock_read(current_count);
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_khz = (uint64_t)(first.count - last.count) * tsc_khz() /
               (last.tsc - first.tsc);
}

void timer_start(void)
{
    set_lvt((has_deadline ? LVT_TSC_DEADLINE : 0) | VECTOR_TIMER);
    this_cpu()->next_tick = deadline_in(tsc_microseconds(period));
    arm(this_cpu()->next_tick);
}

void timer_stop(void)
{
    set_lvt(LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, 0);
}

uint64_t timer_ticks(unsigned idx)
{
    return atomic_load_explicit(&percpu_of(idx)->ticks, memory_order_relaxed);
}

void timer_interrupt(struct trap_frame *frame)
{
    struct percpu *cpu = this_cpu();
    atomic_store_explicit(&cpu->ticks, timer_ticks(cpu->lcpu->idx) + 1,
                          memory_order_relaxed);
    uint64_t now = rdtsc();
    cpu->next_tick += period;
    if ((int64_t)(cpu->next_tick - now) < (int64_t)period / 2)
        cpu->next_tick = now + period; /* late: the ticks between are lost */
    arm(cpu->next_tick);
    sched_tick(frame);
}

void timer_prove(void)
{
    uint64_t before = timer_ticks(this_cpu()->lcpu->idx);
    uint64_t flags = interrupts_save();
    interrupts_on();
    uint64_t deadline = deadline_in(PROVE_US);
    while (timer_ticks(this_cpu()->lcpu->idx) == before) {
        if (deadline_passed(deadline))
            boot_error(EXIT_NO_TICK,
                       "the local APIC's timer does not tick: no interrupt "
                       "within %u ms (LVT %#x, count %#x of %#x); next: "
                       "lamppost run -- and this emulator's command line",
                       PROVE_US / 1000, apic_read(APIC_LVT_TIMER),
                       apic_read(APIC_TIMER_CURRENT),
                       apic_read(APIC_TIMER_INITIAL));
        pause();
    }
    interrupts_restore(flags);
}
