/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lighting a lamp from C.
 *
 *   STAGE(name)               on a CPU whose GS base is set
 *   STAGE_WITH(name, value)   the same with an argument
 *   STAGE_AT(record, name)    on the way that every AP takes
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
        _Static_assert(TRACE_ON_WAY(STAGE_##name), "it has its own entry");    \
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

/* Stages go to memory alone: they are stamped. */
#if TRACE
extern bool trace_stamps;
#else
#define trace_stamps false
#endif

/* Append to `record` and send the frame to the sinks; `record` may be NULL
 * (nothing happens).  The way for every choice of sinks. */
void trace_stage(struct trace_record *record, enum stage stage,
                 bool has_argument, uint32_t argument);

/* The same for the CPU that asks, in every case that trace_stage_here() does
 * not serve itself. */
void trace_stage_anyhow(enum stage stage, bool has_argument, uint32_t argument);

/* The record of the CPU that asks; needs GS base. */
struct trace_record *trace_this_cpu(void);

/*
 * To memory alone, a stage is a time and a word in the next entry: its number
 * stands there already, and a reader finds the last one by its time.  So one
 * exchange that no interrupt can divide takes the entry, and whatever else a
 * stage may need is tested by one comparison.
 */
__attribute__((always_inline)) static inline void
trace_stamp(struct trace_entry *entry)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    volatile struct trace_stamp *stamp = (volatile void *)entry;
    stamp->low = low;
    stamp->high = high;
}

__attribute__((always_inline)) static inline void
trace_stage_here(enum stage stage, bool has_argument, uint32_t argument)
{
    struct trace_entry *entry = (void *)sizeof *entry;
    bool is_free;
    __asm__ volatile("xaddq %0, %%gs:%c2\n\t"
                     "cmpq %%gs:%c3, %0"
                     : "+r"(entry), "=@ccb"(is_free)
                     : "i"(offsetof(struct percpu, entry)),
                       "i"(offsetof(struct percpu, entries_end))
                     : "memory");
    if (__builtin_expect(!is_free, false)) {
        trace_stage_anyhow(stage, has_argument, argument);
        return;
    }
    volatile struct trace_stamp *stamp = (volatile void *)entry;
    if (has_argument)
        stamp->argument = argument;
    /* One store: the compiler avoids a 16-bit constant, which takes two. */
    __asm__ volatile("movw %1, %0"
                     : "=m"(stamp->what)
                     : "ir"((uint16_t)(stage | has_argument << 8)));
    trace_stamp(entry);
}

/* A stage whose entry is known, and holds it already. */
__attribute__((always_inline)) static inline void
trace_stage_at(struct trace_record *record, enum stage stage,
               enum trace_slot slot)
{
    if (__builtin_expect(trace_stamps, true))
        trace_stamp(((struct trace_ap_record *)record)->entries + slot);
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

/* Number the entries that the BSP has not written: its stamps do not. */
void trace_bsp_begin(void);

/* The pages of low memory that trace_move() needs for `cpus` CPUs. */
size_t trace_area_size(unsigned cpus);

/* Move the control block to physical `area` and make records for `cpus` CPUs
 * and some that nobody expects.  The BSP is alone. */
void trace_move(uint64_t area, unsigned cpus);

/* The last stage of the AP with this APIC ID: 0 if it never lit a lamp. */
uint8_t trace_last_stage(uint32_t apic_id);

/* The segment of the control block, for 16-bit code; 0 without a trace. */
uint16_t trace_segment(void);
