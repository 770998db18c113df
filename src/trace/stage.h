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
        trace_stage(record, STAGE_##name, false, 0);                           \
    } while (0)
#define STAGE(name) STAGE_AT(trace_this_cpu(), name)
#define STAGE_WITH(name, value)                                                \
    do {                                                                       \
        STAGE_SITE(name);                                                      \
        trace_stage(trace_this_cpu(), STAGE_##name, true, (uint32_t)(value));  \
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

/* The record of the CPU that asks; needs GS base. */
struct trace_record *trace_this_cpu(void);

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

/* The pages of low memory that trace_move() needs for `cpus` CPUs. */
size_t trace_area_size(unsigned cpus);

/* Move the control block to physical `area` and make records for `cpus` CPUs
 * and some that nobody expects.  The BSP is alone. */
void trace_move(uint64_t area, unsigned cpus);

/* The last stage of the AP with this APIC ID: 0 if it never lit a lamp. */
uint8_t trace_last_stage(uint32_t apic_id);

/* The segment of the control block, for 16-bit code; 0 without a trace. */
uint16_t trace_segment(void);
