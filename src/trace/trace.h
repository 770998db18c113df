/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stage protocol's memory side: what a debugger reads after death, and
 * what C and assembler share to write it (docs/stage-codes.md).
 *
 * The control block and the records of the APs lie below 640 KiB, where
 * 16-bit code can reach them.  Slot 0 is the BSP's; APs claim the others in
 * the order in which they arrive.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define TRACE_MAGIC "LAMPTRC1"

#define TRACE_SINK_E9     1u
#define TRACE_SINK_COM1   2u
#define TRACE_SINK_MEMORY 4u
#define TRACE_SINKS_ALL   (TRACE_SINK_E9 | TRACE_SINK_COM1 | TRACE_SINK_MEMORY)

/* Powers of two: the emitter masks, it does not divide. */
#define TRACE_AP_ENTRIES  32
#define TRACE_BSP_ENTRIES 1024

/* A UART that is not ready after so many polls is left alone for this byte;
 * at 115 200 baud a byte takes 87 µs, well under so many port reads. */
#define TRACE_COM1_POLLS 0xffff
/* Bytes that a 16550A holds. */
#define TRACE_COM1_FIFO 16

/* A lock whose word has not changed for so long is stolen: its holder was
 * stopped inside a frame.  A frame takes microseconds, but with 64 vCPU
 * threads on two host cores a holder can wait 100 ms for its next slice. */
#define TRACE_STEAL_AFTER_MS 1000

/* The emitter's 32-bit clock ticks every 256 cycles, so that it goes round in
 * minutes: 2^32 cycles are less than TRACE_STEAL_AFTER_MS on a fast CPU, and
 * a deadline that the clock can't reach never passes.  A multiple of 8. */
#define TRACE_CLOCK_SHIFT 8

#define TRACE_UNCLAIMED 0xffffffffu

struct trace_control {
    char magic[8];
    _Atomic uint32_t lock; /* low half: owner, 0 = free; high: generation */
    uint32_t sinks;        /* TRACE_SINK_* */
    uint64_t steal_after;  /* TSC cycles, below 2^40 */
    uint32_t steals;       /* how often the lock was stolen */
    uint32_t slots;        /* records that there are */
    uint32_t next;         /* real-mode segment of the next free slot */
    uint32_t record_bytes; /* from one record to the next */
    uint64_t records;      /* physical address of slot 0 */
    uint32_t end;          /* real-mode segment of what follows the slots */
    uint32_t reserved[3];
};
_Static_assert(sizeof(struct trace_control) == 64, "fixed by the protocol");

struct trace_entry {
    uint64_t tsc; /* 0 until the lamp is lit */
    uint32_t argument;
    uint8_t stage;
    uint8_t flags; /* TRACE_HAS_ARGUMENT */
    uint16_t index;
};
_Static_assert(sizeof(struct trace_entry) == 16, "fixed by the protocol");

#define TRACE_HAS_ARGUMENT 1u

/* A trace_entry in the parts that are written at once. */
struct __attribute__((may_alias)) trace_stamp {
    uint32_t low, high; /* tsc */
    uint32_t argument;
    uint16_t what; /* stage, flags */
    uint16_t index;
};
_Static_assert(sizeof(struct trace_stamp) == sizeof(struct trace_entry), "");
#define TRACE_ENTRY_SHIFT 4

/* "@ffffffff:c3=ffffffff.f*ff\n" is the longest frame: 27 characters. */
#define TRACE_FRAME_MAX 28

struct trace_record {
    uint32_t apic_id;       /* TRACE_UNCLAIMED until a CPU takes the slot */
    _Atomic uint32_t count; /* entries ever written */
    uint64_t entries;       /* physical address; in an AP's record: this + 64 */
    uint32_t capacity;      /* entries before the oldest is overwritten */
    uint8_t prefix_len;
    uint8_t prefix_sum;
    uint8_t frame_len;
    uint8_t reserved;
    char frame[TRACE_FRAME_MAX]; /* the frame being sent, or sent last */
    uint32_t waiting_since;      /* TSC >> TRACE_CLOCK_SHIFT */
    uint32_t control;            /* physical address of the control block */
    uint32_t owner;              /* slot + 1, as in the lock word */
};
_Static_assert(sizeof(struct trace_record) == 64, "fixed by the protocol");

/*
 * The way that every AP takes from its SIPI to work: each of its stages has an
 * entry of its own in an AP's record, numbered in the order of the table.  A
 * code that ends in e or f is where an AP leaves that way, in the trampoline;
 * its entry is that of the stage that it does not come to.
 */
#define TRACE_LEAVES(code) (((code)&15) >= 0xe)
#define TRACE_ON_WAY(code)                                                     \
    (((code) < 0x80 || ((code)&0xf0) == 0xa0) && !TRACE_LEAVES(code))
enum trace_slot {
#define STAGE(code, name, mode, became, needs)                                 \
    SLOT_##name, SLOT_AFTER_##name = SLOT_##name - !TRACE_ON_WAY(code),
#include "../trampoline/stages.h"
#undef STAGE
};
#define TRACE_WAY (SLOT_AP_INTERRUPTS + 1)

struct trace_ap_record {
    struct trace_record header;
    struct trace_entry entries[TRACE_AP_ENTRIES];
};

/* Segments are counted in these. */
#define TRACE_PARAGRAPH 16
_Static_assert(sizeof(struct trace_ap_record) % TRACE_PARAGRAPH == 0, "");
