/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * INIT, SIPI, and, if the AP has not come, a second SIPI
 * [SDM 3A "MP Initialization"].
 *
 *   parallel   INIT to all, one wait, SIPI to all: each step is sent to one
 *              CPU after the other, none waits for the one before
 *   serial     the whole sequence for one CPU, then for the next
 *   broadcast  one INIT and one SIPI with the shorthand all-excluding-self
 */
#include "smp/bringup.h"

#include "apic/apic.h"
#include "cpu/percpu.h"
#include "lib/console.h"
#include "lib/exit.h"
#include "mm/layout.h"
#include "mm/stacks.h"
#include "smp/delays.h"
#include "smp/lcpu.h"
#include "time/tsc.h"
#include "trace/stage.h"

struct lcpu lcpus[NR_CPUS];
struct lcpu *lcpu_table[LCPU_TABLE_SIZE];
unsigned lcpu_count;
unsigned lcpus_left_alone;

/* --------------------------------------------------------------- blocks */

static void add_lcpu(uint32_t id, enum lcpu_state state)
{
    struct stacks stacks = stacks_map(lcpu_count);
    struct lcpu *lcpu = &lcpus[lcpu_count];
    *lcpu = (struct lcpu){
        .state = state,
        .idx = lcpu_count,
        .id = id,
        .entry = (uint64_t)ap_entry,
        .stack = stacks.top,
    };
    percpu_of(lcpu_count)->lcpu = lcpu;
    lcpu_count++;

    uint32_t place = id;
    while (lcpu_table[place % LCPU_TABLE_SIZE])
        place++;
    lcpu_table[place % LCPU_TABLE_SIZE] = lcpu;
}

void lcpus_init(const struct madt *madt, uint64_t most)
{
    /* The BSP's own block was made before anything could go wrong. */
    uint32_t bsp = lcpus[0].id = apic_id();
    for (size_t i = 0; i < madt->count; i++) {
        const struct madt_cpu *cpu = &madt->cpus[i];
        if (!cpu->enabled)
            continue; /* online-capable ones wait for hot-plug */
        if (cpu->apic_id == bsp)
            continue;
        if (most && lcpu_count >= most)
            break; /* the user's wish */
        if (!apic_can_reach(cpu->apic_id))
            console_printf("CPU with APIC ID %u left alone: xAPIC can't "
                           "address IDs above 254; boot with apic=x2apic\n",
                           cpu->apic_id);
        else if (lcpu_count < NR_CPUS)
            add_lcpu(cpu->apic_id, LCPU_STATE_OFFLINE);
    }
    size_t usable = madt_usable(madt);
    if (most && usable > most)
        usable = most;
    lcpus_left_alone = usable > lcpu_count ? (unsigned)usable - lcpu_count : 0;
    if (usable > NR_CPUS)
        console_printf("the MADT lists %zu usable CPUs, this kernel supports "
                       "%u: the others are left alone; build it with make "
                       "NR_CPUS=%zu\n",
                       usable, NR_CPUS, usable);
}

/* ------------------------------------------------------------- sending */

/* Acquire pairs with the release in become(). */
static uint32_t state_of(const struct lcpu *lcpu)
{
    return atomic_load_explicit(&lcpu->state, memory_order_acquire);
}

static bool is_waiting(const struct lcpu *lcpu)
{
    return state_of(lcpu) == LCPU_STATE_BOOTING;
}

static bool has_come(uint32_t state, enum lcpu_state wanted)
{
    return state >= wanted && state != LCPU_STATE_ABANDONED;
}

unsigned lcpus_in(enum lcpu_state state)
{
    unsigned count = 0;
    for (unsigned i = 0; i < lcpu_count; i++)
        count += has_come(state_of(&lcpus[i]), state);
    return count;
}

static void send(const struct lcpu *lcpu, uint32_t icr, const char *what)
{
    const char *error = apic_send(lcpu->id, icr);
    if (error)
        console_printf("CPU %u (APIC ID %u): sending %s: %s\n", lcpu->idx,
                       lcpu->id, what, error);
}

static void send_init(struct lcpu *lcpu)
{
    /* Release: the AP's exchange BOOTING -> ALIVE sees the whole block. */
    atomic_store_explicit(&lcpu->state, LCPU_STATE_BOOTING,
                          memory_order_release);
    send(lcpu, ICR_INIT | ICR_ASSERT | ICR_LEVEL, "INIT");
    STAGE_WITH(BSP_INIT_SENT, lcpu->id);
}

static void send_init_deassert(const struct lcpu *lcpu)
{
    if (!apic_is_x2apic()) /* which has no such message */
        send(lcpu, ICR_INIT | ICR_LEVEL, "INIT de-assert");
}

static inline void send_sipi(const struct lcpu *lcpu, uint64_t trampoline)
{
    send(lcpu, ICR_STARTUP | (uint32_t)(trampoline / PAGE_SIZE), "SIPI");
    STAGE_WITH(BSP_SIPI_SENT, lcpu->id);
}

/* The sequence for lcpus[first] to lcpus[last - 1]. */
static void start(unsigned first, unsigned last, uint64_t trampoline)
{
    const struct delays *delays = delays_of_this_cpu();
    for (unsigned i = first; i < last; i++)
        send_init(&lcpus[i]);
    udelay(delays->after_init_us);
    for (unsigned i = first; i < last; i++)
        send_init_deassert(&lcpus[i]);
    for (unsigned i = first; i < last; i++)
        send_sipi(&lcpus[i], trampoline);
    udelay(delays->after_sipi_us);
    for (unsigned i = first; i < last; i++)
        if (delays->second_sipi && is_waiting(&lcpus[i]))
            send_sipi(&lcpus[i], trampoline);
}

static void start_broadcast(uint64_t trampoline)
{
    const struct delays *delays = delays_of_this_cpu();
    struct lcpu everyone = {.id = 0};
    for (unsigned i = 1; i < lcpu_count; i++)
        atomic_store_explicit(&lcpus[i].state, LCPU_STATE_BOOTING,
                              memory_order_release);
    send(&everyone, ICR_INIT | ICR_ASSERT | ICR_OTHERS, "INIT");
    for (unsigned i = 1; i < lcpu_count; i++)
        STAGE_WITH(BSP_INIT_SENT, lcpus[i].id);
    udelay(delays->after_init_us);
    send(&everyone,
         ICR_STARTUP | ICR_ASSERT | ICR_OTHERS |
             (uint32_t)(trampoline / PAGE_SIZE),
         "SIPI");
    for (unsigned i = 1; i < lcpu_count; i++)
        STAGE_WITH(BSP_SIPI_SENT, lcpus[i].id);
}

/* ------------------------------------------------------------- waiting */

/* Was started, and has not come to `wanted`. */
static bool is_on_its_way(uint32_t state, enum lcpu_state wanted)
{
    return state != LCPU_STATE_OFFLINE && state < wanted;
}

/* Give up an AP, unless it comes at this very moment. */
static bool abandon(struct lcpu *lcpu, enum lcpu_state wanted)
{
    uint32_t state = state_of(lcpu);
    while (is_on_its_way(state, wanted))
        if (atomic_compare_exchange_weak_explicit(
                &lcpu->state, &state, LCPU_STATE_ABANDONED,
                memory_order_acq_rel, memory_order_acquire))
            return true;
    return false;
}

static void report_missing(const struct lcpu *lcpu, unsigned deadline_us)
{
    STAGE_WITH(BSP_AP_MISSING, lcpu->id);
    uint8_t stage = trace_last_stage(lcpu->id);
    console_printf("CPU %u (APIC ID %u) did not arrive within %u ms. ",
                   lcpu->idx, lcpu->id, deadline_us / 1000);
    if (stage)
        console_printf("Its last stage is %02x: %s.\n", stage,
                       stage_sentence(stage));
    else
        console_printf("It lit no lamp: it did not reach the trampoline.\n");
    console_printf("  next: lamppost run -- and this emulator's command line, "
                   "or make gdb, and there: lamp why\n");
}

/* What the BSP saw of each CPU last, and of how many that they are online. */
static uint32_t seen[NR_CPUS];
static unsigned seen_online = 1;

/* Look at lcpus[i]: has it come further? */
static bool has_gone_on(unsigned i)
{
    uint32_t state = state_of(&lcpus[i]), before = seen[i];
    if (state == before)
        return false;
    seen[i] = state;
    if (before < LCPU_STATE_ONLINE && has_come(state, LCPU_STATE_ONLINE)) {
        seen_online++;
        STAGE_WITH(BSP_AP_SEEN, lcpus[i].id);
    }
    return true;
}

/* The last stages of those on their way, added up: more than before if one of
 * them goes on. */
static unsigned stages_of(unsigned first, unsigned last, enum lcpu_state wanted)
{
    unsigned sum = 0;
    for (unsigned i = first; i < last; i++)
        if (is_on_its_way(seen[i], wanted))
            sum += trace_last_stage(lcpus[i].id);
    return sum;
}

/* Wait for lcpus[first] to lcpus[last - 1]; the deadline starts anew with each
 * state that one comes to, so that many slow ones are not taken for missing,
 * and in its second half with each lamp that one on its way lights. */
static void await(unsigned first, unsigned last, enum lcpu_state wanted)
{
    unsigned missing, stages = 0;
    unsigned patience = wanted == LCPU_STATE_ONLINE ? ARRIVAL_DEADLINE_US
                                                    : GOING_ON_DEADLINE_US;
    bool in_second_half = false;
    uint64_t deadline = deadline_in(patience / 2);
    for (;; pause()) {
        bool gone_on = false;
        missing = 0;
        for (unsigned i = first; i < last; i++) {
            gone_on |= has_gone_on(i);
            missing += is_on_its_way(seen[i], wanted);
        }
        if (!missing)
            break;
        if (!gone_on && !deadline_passed(deadline))
            continue;
        unsigned now = gone_on ? 0 : stages_of(first, last, wanted);
        if (!gone_on && in_second_half && now == stages)
            break;
        in_second_half = !gone_on;
        stages = now;
        deadline = deadline_in(patience / 2);
    }
    for (unsigned i = first; missing && i < last; i++) {
        if (abandon(&lcpus[i], wanted)) {
            percpu_of(i)->listens = false;
            report_missing(&lcpus[i], patience);
        }
        has_gone_on(i);
    }
}

unsigned smp_await(enum lcpu_state wanted)
{
    await(1, lcpu_count, wanted);
    return lcpus_in(wanted);
}

void smp_bring_up(enum smp_mode mode, uint64_t trampoline)
{
    if (mode == SMP_SERIAL) {
        for (unsigned i = 1; i < lcpu_count; i++) {
            start(i, i + 1, trampoline);
            await(i, i + 1, LCPU_STATE_ONLINE);
        }
    } else if (mode != SMP_OFF && lcpu_count > 1) {
        if (mode == SMP_BROADCAST)
            start_broadcast(trampoline);
        else
            start(1, lcpu_count, trampoline);
        await(1, lcpu_count, LCPU_STATE_ONLINE);
    }
    STAGE_WITH(BSP_ALL_ONLINE, seen_online);
}
