/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stage protocol in C: the same five steps as the emitter in
 * trampoline/stage.inc, and the lock that both share with the console.
 */
#include "cpu/cpu.h"
#include "cpu/percpu.h"
#include "lib/string.h"
#include "mm/paging.h"
#include "time/tsc.h"
#include "trace/stage.h"

#define PORT_E9       0xe9
#define COM1_DATA     0x3f8
#define COM1_LSR      0x3fd
#define COM1_LSR_THRE 0x20
#define COM1_LSR_TEMT 0x40

/* In the lock word: above every record's owner, which is its slot + 1. */
#define OWNER_WITHOUT_RECORD 0x8000u

#if TRACE
/* What src/boot/entry.asm uses at its physical address, at its high one. */
extern struct trace_control boot_trace_control_high;

struct trace_control *trace_control = &boot_trace_control_high;
bool trace_stamps;
#else
static struct trace_control silent = {.magic = TRACE_MAGIC};
struct trace_control *trace_control = &silent;
#endif

void trace_choose_sinks(uint32_t sinks)
{
    trace_control->sinks = sinks;
#if TRACE
    trace_stamps = sinks == TRACE_SINK_MEMORY;
#endif
}

static const char *const sentences[256] = {
#undef STAGE
#define STAGE(code, name, mode, became, needs) [code] = became,
#include "../trampoline/stages.h"
};

const char *stage_sentence(uint8_t code)
{
    return sentences[code];
}

/* ------------------------------------------------------------- the lock */

/* Take the lock for `owner`; steal it when its word has not changed for
 * TRACE_STEAL_AFTER_MS, or at once from the CPU itself: an NMI or an exception
 * came inside a frame, and never returns there.  True if it was stolen. */
static bool lock(uint32_t owner)
{
    struct trace_control *c = trace_control;
    uint32_t seen = 0;
    uint64_t since = 0;
    for (;;) {
        uint32_t word = atomic_load_explicit(&c->lock, memory_order_relaxed);
        if (word & 0xffff) {
            if (word != seen) { /* another holder: its deadline starts now */
                seen = word;
                since = rdtsc();
                continue;
            }
            if ((word & 0xffff) != owner) {
                pause();
                if (rdtsc() - since < c->steal_after)
                    continue;
            }
        }
        bool steal = word & 0xffff;
        uint32_t mine = (word & 0xffff0000u) + 0x10000u + owner;
        /* Acquire pairs with the release in unlock() and in the emitter. */
        if (atomic_compare_exchange_strong_explicit(&c->lock, &word, mine,
                                                    memory_order_acquire,
                                                    memory_order_relaxed)) {
            if (steal)
                __atomic_fetch_add(&c->steals, 1, __ATOMIC_RELAXED);
            return steal;
        }
    }
}

static void unlock(uint32_t owner)
{
    struct trace_control *c = trace_control;
    uint32_t word = atomic_load_explicit(&c->lock, memory_order_relaxed);
    if ((word & 0xffff) != owner)
        return; /* stolen */
    atomic_compare_exchange_strong_explicit(&c->lock, &word, word & 0xffff0000u,
                                            memory_order_release,
                                            memory_order_relaxed);
}

static void send(const char *text, size_t size, uint32_t sinks)
{
    if (sinks & TRACE_SINK_E9) {
        const char *from = text;
        size_t count = size;
        __asm__ volatile("rep outsb"
                         : "+S"(from), "+c"(count)
                         : "d"((uint16_t)PORT_E9)
                         : "memory");
    }
    if (sinks & TRACE_SINK_COM1) {
        for (size_t i = 0; i < size; i++) {
            unsigned polls = TRACE_COM1_POLLS;
            while (!(inb(COM1_LSR) & COM1_LSR_THRE))
                if (!--polls)
                    return; /* this UART never becomes ready: leave it */
            outb(COM1_DATA, (uint8_t)text[i]);
        }
    }
}

/* Interrupts are off: a handler that writes would wait for the code that it
 * interrupted. */
static void send_locked(uint32_t owner, const char *text, size_t size,
                        uint32_t sinks)
{
    /* End a torn line: an '@' that stood alone there would make the one of
     * our frame an escaped one. */
    if (lock(owner))
        send("\n", 1, sinks);
    send(text, size, sinks);
    unlock(owner);
}

/* A CPU without a record is told from those with one. */
static uint32_t owner_of_this_cpu(void)
{
    struct trace_record *record = trace_this_cpu();
    return record ? record->owner
                  : OWNER_WITHOUT_RECORD + this_cpu()->lcpu->idx;
}

void trace_write(const char *text, size_t size, uint32_t sinks)
{
    uint32_t owner = owner_of_this_cpu();
    uint64_t flags = interrupts_save();
    send_locked(owner, text, size, sinks);
    interrupts_restore(flags);
}

void trace_byte(char byte)
{
    send(&byte, 1, TRACE_SINK_E9 | TRACE_SINK_COM1);
}

void trace_drain(void)
{
    unsigned polls = TRACE_COM1_FIFO * TRACE_COM1_POLLS;
    while (!(inb(COM1_LSR) & COM1_LSR_TEMT) && --polls)
        pause();
}

/* ------------------------------------------------------------- a frame */

static char digit(uint32_t nibble)
{
    return "0123456789abcdef"[nibble & 15];
}

static uint8_t sum_step(uint8_t sum, char c)
{
    return (uint8_t)((uint8_t)(sum << 1 | sum >> 7) ^ (uint8_t)c);
}

void trace_format(struct trace_record *record, uint32_t sequence,
                  enum stage stage, bool has_argument, uint32_t argument)
{
    uint8_t at = record->prefix_len;
    record->frame[at++] = digit((uint32_t)stage >> 4);
    record->frame[at++] = digit((uint32_t)stage);
    if (has_argument) {
        record->frame[at++] = '=';
        int shift = 28;
        while (shift && !(argument >> shift & 15))
            shift -= 4;
        for (; shift >= 0; shift -= 4)
            record->frame[at++] = digit(argument >> shift);
    }
    record->frame[at++] = '.';
    record->frame[at++] = digit(sequence);
    uint8_t sum = record->prefix_sum;
    for (uint8_t i = record->prefix_len; i < at; i++)
        sum = sum_step(sum, record->frame[i]);
    record->frame[at++] = '*';
    record->frame[at++] = digit(sum >> 4);
    record->frame[at++] = digit(sum);
    record->frame[at++] = '\n';
    record->frame_len = at;
}

static void write_stage(struct trace_record *record, enum stage stage,
                        bool has_argument, uint32_t argument, uint32_t sinks)
{
    uint32_t index = atomic_load_explicit(&record->count, memory_order_relaxed);
    if (sinks & TRACE_SINK_MEMORY) {
        struct trace_entry *entries = paging_window(record->entries);
        entries[index & (record->capacity - 1)] = (struct trace_entry){
            .tsc = rdtsc(),
            .argument = argument,
            .stage = (uint8_t)stage,
            .flags = has_argument ? TRACE_HAS_ARGUMENT : 0,
            .index = (uint16_t)index,
        };
    }
    /* Release: who sees the count sees the entry (trace_last_stage()). */
    atomic_store_explicit(&record->count, index + 1, memory_order_release);

    if (!(sinks & (TRACE_SINK_E9 | TRACE_SINK_COM1)))
        return;
    trace_format(record, index, stage, has_argument, argument);
    send_locked(record->owner, record->frame, record->frame_len, sinks);
}

void trace_stage(struct trace_record *record, enum stage stage,
                 bool has_argument, uint32_t argument)
{
    uint32_t sinks = trace_control->sinks;
    if (!record || record->apic_id == TRACE_UNCLAIMED || !sinks)
        return;
    uint64_t flags = interrupts_save();
    write_stage(record, stage, has_argument, argument, sinks);
    interrupts_restore(flags);
}

void trace_stage_anyhow(enum stage stage, bool has_argument, uint32_t argument)
{
    if (!trace_control->sinks)
        return;
    struct percpu *cpu = this_cpu();
    struct trace_record *record = cpu->record;
    uint64_t flags = interrupts_save();
    if (cpu->entries_end) { /* once round: from here on the count is kept */
        atomic_store_explicit(&record->count, record->capacity,
                              memory_order_release);
        cpu->entries_end = NULL;
    }
    if (trace_stamps && record && record->count < record->capacity) {
        /* The first: behind the BSP's frames, or behind an AP's way. */
        struct trace_entry *entries = paging_window(record->entries);
        cpu->entry = entries + (record->count ? record->count : TRACE_WAY);
        cpu->entries_end = entries + record->capacity;
        trace_stage_here(stage, has_argument, argument);
    } else {
        trace_stage(record, stage, has_argument, argument);
    }
    interrupts_restore(flags);
}

struct trace_record *trace_this_cpu(void)
{
    return this_cpu()->record;
}
