/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the stages lie in memory: the BSP's record, and the area in low memory
 * with the control block and the APs' records.  The BSP makes it before the
 * first INIT, and reads in it how far an AP has come.
 */
#include "cpu/percpu.h"
#include "lib/string.h"
#include "mm/layout.h"
#include "mm/paging.h"
#include "time/tsc.h"
#include "trace/stage.h"

#if TRACE
/* APs that the MADT does not list but something wakes get records too. */
#define UNEXPECTED_CPUS 8

/* What src/boot/entry.asm uses at its physical address, at its high one. */
extern struct trace_record boot_trace_record_high;

struct trace_record *trace_bsp_record(void)
{
    return &boot_trace_record_high;
}

static uint64_t records_offset(void)
{
    return sizeof(struct trace_control);
}

size_t trace_area_size(unsigned cpus)
{
    return records_offset() +
           (cpus + UNEXPECTED_CPUS) * sizeof(struct trace_ap_record);
}

/* What an AP's stamps leave out: each entry's number, and the stages on its
 * way. */
static void prepare_stamps(struct trace_ap_record *record)
{
    static const struct {
        uint8_t code, slot;
    } way[] = {
#undef STAGE
#define STAGE(code, name, mode, became, needs) {code, SLOT_##name},
#include "../trampoline/stages.h"
    };
    for (uint16_t i = 0; i < TRACE_AP_ENTRIES; i++)
        record->entries[i].index = i;
    for (size_t i = 0; i < sizeof way / sizeof way[0]; i++)
        if (TRACE_ON_WAY(way[i].code))
            record->entries[way[i].slot].stage = way[i].code;
}

void trace_bsp_begin(void)
{
    struct trace_record *record = trace_bsp_record();
    struct trace_entry *entries = paging_window(record->entries);
    for (uint32_t i = record->count; i < record->capacity; i++)
        entries[i].index = (uint16_t)i;
}

void trace_move(uint64_t area, unsigned cpus)
{
    struct trace_control *c = phys_to_virt(area);
    struct trace_ap_record *records =
        (void *)((char *)phys_to_virt(area) + records_offset());
    *c = *trace_control;
    c->steal_after = tsc_cycles(TRACE_STEAL_AFTER_MS * 1000ull);
    c->slots = cpus + UNEXPECTED_CPUS;
    c->record_bytes = sizeof(struct trace_ap_record);
    c->records = area + records_offset();
    uint64_t first_free = c->records + sizeof(struct trace_ap_record);
    c->next = (uint32_t)(first_free / TRACE_PARAGRAPH);
    c->end = (uint32_t)((area + trace_area_size(cpus)) / TRACE_PARAGRAPH);

    for (uint32_t slot = 0; slot < c->slots; slot++) {
        struct trace_record *record = &records[slot].header;
        memset(&records[slot], 0, sizeof records[slot]);
        record->apic_id = TRACE_UNCLAIMED;
        record->entries = area + records_offset() +
                          slot * sizeof(struct trace_ap_record) +
                          sizeof(struct trace_record);
        record->capacity = TRACE_AP_ENTRIES;
        record->control = (uint32_t)area;
        record->owner = slot + 1;
        if (trace_stamps)
            prepare_stamps(&records[slot]);
    }
    /* The BSP keeps its longer history where it began. */
    records[0].header = *trace_bsp_record();
    records[0].header.control = (uint32_t)area;
    this_cpu()->record = &records[0].header;
    trace_control = c;
}

/* How many entries of a record were written: those that were only stamped are
 * not in its count. */
static uint32_t written(const struct trace_record *record)
{
    const struct trace_entry *entries = paging_window(record->entries);
    uint32_t count = atomic_load_explicit(&record->count, memory_order_acquire);
    for (uint32_t i = record->capacity; i > count; i--)
        if (entries[i - 1].tsc)
            return i;
    return count;
}

uint8_t trace_last_stage(uint32_t apic_id)
{
    struct trace_control *c = trace_control;
    for (uint32_t slot = 0; slot < c->slots; slot++) {
        struct trace_record *record =
            paging_window(c->records + (uint64_t)slot * c->record_bytes);
        if (record->apic_id != apic_id)
            continue;
        uint32_t count = written(record);
        struct trace_entry *entries = paging_window(record->entries);
        return count ? entries[(count - 1) & (record->capacity - 1)].stage : 0;
    }
    return 0;
}

uint16_t trace_segment(void)
{
    return (uint16_t)(((uint64_t)trace_control - DIRECT_MAP) >> 4);
}
#else
struct trace_record *trace_bsp_record(void)
{
    return NULL;
}

size_t trace_area_size(unsigned cpus)
{
    (void)cpus;
    return 0;
}

void trace_bsp_begin(void) {}

void trace_move(uint64_t area, unsigned cpus)
{
    (void)area;
    (void)cpus;
    trace_control->steal_after = tsc_cycles(TRACE_STEAL_AFTER_MS * 1000ull);
}

uint8_t trace_last_stage(uint32_t apic_id)
{
    (void)apic_id;
    return 0;
}

uint16_t trace_segment(void)
{
    return 0;
}
#endif
