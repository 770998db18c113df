/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lighting a lamp from C.
 *
 *   STAGE(name)               on a CPU whose GS base is set
 *   STAGE_WITH(name, value)   the same with an argument
 *   STAGE_AT(record, name)    before GS base is set
 *
 * Each use leaves its address in the ELF's .lamppost.sites section, so that a
 * debugger can stop there.  With TRACE=0 nothing is left of any of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "cpu/percpu.h"
#include "trace/trace.h"

enum stage {
#define STAGE(code, name, mode, became, needs) STAGE_##name = code,
#include "../trampoline/stages.h"
#undef STAGE
};

/* Is `code` a stage, and what does it say? NULL if not. */
const char *stage_sentence(uint8_t code);

/* Where stages go from now on: TRACE_SINK_*, or 0 for nowhere.  Console text
 * always goes to both ports. */
void trace_choose_sinks(uint32_t sinks);

/* The mode byte of a site that was left by C code. */
#define SITE_MODE_LONG64 "5"

#if TRACE
#define STAGE_SITE(name)                                                       \
    __asm__ volatile("661: .pushsection .lamppost.sites,\"\",@progbits\n"      \
                     ".quad 661b\n.byte %c0, " SITE_MODE_LONG64 "\n"           \
                     ".zero 6\n.popsection"                                    \
                     :                                                         \
                     : "i"(STAGE_##name))
#define STAGE_AT(record, name)                                                 \
    do {                                                                       \
        STAGE_SITE(name);                                                      \
        trace_stage_at(record, STAGE_##name, SLOT_##name);                     \
    } while (0)
#define STAGE(name)                                                            \
    do {                                                                       \
        STAGE_SITE(name);                                                      \
        trace_stage_here(STAGE_##name, false, 0);                              \
    } while (0)
#define STAGE_WITH(name, value)                                                \
    do {                                                                       \
        STAGE_SITE(name);                                                      \
        trace_stage_here(STAGE_##name, true, (uint32_t)(value));               \
    } while (0)
#else
#define STAGE_AT(record, name)  ((void)(record))
#define STAGE(name)             ((void)0)
#define STAGE_WITH(name, value) ((void)(value))
#endif

/* The control block in use. */
extern struct trace_control *trace_control;

/* Append to `record` and send the frame to the sinks; `record` may be NULL
 * (nothing happens). */
void trace_stage(struct trace_record *record, enum stage stage,
                 bool has_argument, uint32_t argument);

/* The same for the CPU that asks, in every case that trace_stage_here() does
 * not serve itself. */
void trace_stage_anyhow(enum stage stage, bool has_argument, uint32_t argument);

/* The record of the CPU that asks; needs GS base. */
struct trace_record *trace_this_cpu(void);

/* From now on STAGE() on `cpu` goes to `record`, which may be NULL.  From
 * `entry` to `end` nobody has written yet.  The sinks must have been chosen. */
static inline void trace_adopt(struct percpu *cpu, struct trace_record *record,
                               struct trace_entry *entry,
                               struct trace_entry *end)
{
    bool stamps = record && trace_control->sinks == TRACE_SINK_MEMORY;
    cpu->record = record;
    cpu->entry = stamps ? entry : NULL;
    cpu->entries_end = stamps ? end : NULL;
}
static inline void trace_adopt_ap(struct percpu *cpu,
                                  struct trace_record *record)
{
    struct trace_entry *entries = ((struct trace_ap_record *)record)->entries;
    trace_adopt(cpu, record, entries + TRACE_WAY + 1,
                entries + TRACE_AP_ENTRIES);
}

/*
 * To memory alone, a stage is a time and a word in the next entry: its number
 * stands there already, and a reader finds the last one by its time.  So one
 * exchange that no interrupt can divide takes the entry, and whatever else a
 * stage may need is tested by one comparison.
 */
__attribute__((always_inline)) static inline void
trace_stamp(struct trace_entry *entry, enum stage stage, bool has_argument,
            uint32_t argument)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    volatile struct trace_stamp *stamp = (volatile void *)entry;
    if (has_argument)
        stamp->argument = argument;
    stamp->what = (uint16_t)(stage | has_argument << 8);
    stamp->low = low;
    stamp->high = high;
}

__attribute__((always_inline)) static inline void
trace_stage_here(enum stage stage, bool has_argument, uint32_t argument)
{
    struct trace_entry *entry = (void *)sizeof *entry;
    __asm__ volatile("xaddq %0, %%gs:%c1"
                     : "+r"(entry)
                     : "i"(offsetof(struct percpu, entry))
                     : "memory", "cc");
    struct trace_entry *end;
    __asm__ volatile("movq %%gs:%c1, %0"
                     : "=r"(end)
                     : "i"(offsetof(struct percpu, entries_end)));
    if (__builtin_expect(entry < end, true))
        trace_stamp(entry, stage, has_argument, argument);
    else
        trace_stage_anyhow(stage, has_argument, argument);
}

/* A stage before GS base is set, whose entry is known. */
__attribute__((always_inline)) static inline void
trace_stage_at(struct trace_record *record, enum stage stage,
               enum trace_slot slot)
{
    if (record && trace_control->sinks == TRACE_SINK_MEMORY)
        trace_stamp(((struct trace_ap_record *)record)->entries + slot, stage,
                    false, 0);
    else
        trace_stage(record, stage, false, 0);
}

/* Write the frame's text for `stage` into record->frame, whose prefix is
 * already there, and set frame_len.  Pure: runs on the host in tests. */
void trace_format(struct trace_record *record, uint32_t sequence,
                  enum stage stage, bool has_argument, uint32_t argument);

/* Send bytes to ports under the trace lock. */
void trace_write(const char *text, size_t size, uint32_t sinks);

/* One byte to both ports, with no lock: the last resort of a panic. */
void trace_byte(char byte);

/* Wait, for a while, until COM1 has sent what it was given: a machine that
 * ends earlier loses the trace's last bytes. */
void trace_drain(void);

/* The BSP's own record, as the entry code left it; before any other call. */
struct trace_record *trace_bsp_record(void);

/* The BSP's record under the sinks that were just chosen. */
void trace_bsp_begin(struct percpu *cpu);

/* The pages of low memory that trace_move() needs for `cpus` CPUs. */
size_t trace_area_size(unsigned cpus);

/* Move the control block to physical `area` and make records for `cpus` CPUs
 * and some that nobody expects.  The BSP is alone. */
void trace_move(uint64_t area, unsigned cpus);

/* The last stage of the AP with this APIC ID: 0 if it never lit a lamp. */
uint8_t trace_last_stage(uint32_t apic_id);

/* The segment of the control block, for 16-bit code; 0 without a trace. */
uint16_t trace_segment(void);
