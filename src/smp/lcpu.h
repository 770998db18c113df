/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the BSP hands to one AP: a block of one cache line each, so that an AP
 * that reports its state disturbs no other.  The trampoline finds its block by
 * APIC ID, which is data here and never an index of lcpus[].
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/*
 * The life of an AP.  Each step is taken by the one named; all steps of the AP
 * are exchanges, so that the BSP's giving up and the AP's going on can't both
 * happen.
 */
enum lcpu_state {
    LCPU_STATE_OFFLINE,   /* nobody has sent INIT */
    LCPU_STATE_BOOTING,   /* BSP: INIT is about to be sent */
    LCPU_STATE_ALIVE,     /* AP, trampoline: it found this block */
    LCPU_STATE_ONLINE,    /* AP, C: it is ready for work */
    LCPU_STATE_MEETING,   /* AP: it comes to the rendezvous next */
    LCPU_STATE_WORKING,   /* AP: it is in the scheduler, its last stage sent */
    LCPU_STATE_ABANDONED, /* BSP: the deadline passed */
    LCPU_STATE_BSP,       /* this block is the BSP's own */
};

struct lcpu {
    _Atomic uint32_t state;
    uint32_t idx;
    uint32_t id; /* APIC ID */
    uint32_t reserved;
    uint64_t entry;  /* C: _Noreturn void entry(struct lcpu *) */
    uint64_t stack;  /* the address just above it, 16 KiB aligned */
    uint64_t record; /* physical address of the trace record, 0 if none */
    uint64_t padding[3];
};
_Static_assert(sizeof(struct lcpu) == 64, "one cache line each");

#ifndef NR_CPUS
#define NR_CPUS 256
#endif

/* At least twice as many places as CPUs, a power of two. */
#define LCPU_TABLE_SIZE (1u << (32 - __builtin_clz(2 * NR_CPUS - 1)))

extern struct lcpu lcpus[NR_CPUS];
/* Each AP's block by its APIC ID: at place ID modulo the table's size, or the
 * first after it that was free.  An AP finds its block with one look, however
 * many CPUs there are. */
extern struct lcpu *lcpu_table[LCPU_TABLE_SIZE];
extern unsigned lcpu_count;
/* Usable CPUs without a block: beyond NR_CPUS, or beyond xAPIC's IDs. */
extern unsigned lcpus_left_alone;

/* How many CPUs have come so far, and go on: the BSP always. */
unsigned lcpus_in(enum lcpu_state state);

_Noreturn void ap_entry(struct lcpu *lcpu);
