/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What assembler must know of C: compiled to assembly only, from which the
 * Makefile takes the lines that start with "->" and makes constants.inc.
 */
#include <stddef.h>

#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "cpu/ring3.h"
#include "lib/exit.h"
#include "mm/layout.h"
#include "smp/lcpu.h"
#include "smp/trampoline.h"
#include "trace/trace.h"

#define EMIT(text, value)                                                      \
    __asm__ volatile("->" text " %0" : : "i"((long)(value)))
#define CONSTANT(name, value)    EMIT(#name, value)
#define SAME(name)               EMIT(#name, name)
#define FIELD(name, type, field) EMIT(#name, offsetof(struct type, field))

void constants(void);
void constants(void)
{
    SAME(CR0_PE);
    SAME(CR0_MP);
    SAME(CR0_ET);
    SAME(CR0_NE);
    SAME(CR0_WP);
    SAME(CR0_PG);
    SAME(CR4_PAE);
    SAME(CR4_OSFXSR);
    SAME(CR4_OSXMMEXCPT);
    SAME(CR4_OSXSAVE);
    SAME(XCR0_X87);
    SAME(XCR0_SSE);
    SAME(XCR0_AVX);
    SAME(MSR_EFER);
    SAME(MSR_GS_BASE);
    SAME(EFER_LME);
    SAME(EFER_NXE);
    SAME(CPUID_FEATURES);
    SAME(CPUID_1_ECX_XSAVE);
    SAME(CPUID_1_ECX_AVX);
    SAME(CPUID_TOPOLOGY);
    SAME(CPUID_EXTENDED);
    SAME(CPUID_EXTENDED_EDX_NX);
    SAME(CPUID_EXTENDED_EDX_LONG);
    SAME(DESCRIPTOR_CODE64);
    SAME(DESCRIPTOR_DATA);
    SAME(DESCRIPTOR_CODE32);
    SAME(SELECTOR_CODE64);
    SAME(SELECTOR_DATA);
    SAME(SELECTOR_CODE32);
    SAME(SELECTOR_USER_CODE);
    SAME(SELECTOR_USER_DATA);
    SAME(RFLAGS_RESERVED1);
    SAME(VECTOR_RING3);
    SAME(RING3_QUESTION);
    FIELD(TRAP_VECTOR, trap_frame, vector);
    FIELD(TRAP_CS, trap_frame, cs);
    FIELD(PERCPU_RSP0, percpu, tables.tss.rsp);
    FIELD(PERCPU_USER_RSP, percpu, user_rsp);

    SAME(EXIT_NO_LONG_MODE);
    SAME(ISA_DEBUG_EXIT);
    SAME(BOCHS_SHUTDOWN);

    SAME(KERNEL_BASE);
    SAME(KERNEL_PHYSICAL);
    SAME(KERNEL_LINKED);
    SAME(BOOT_MAP_SIZE);
    SAME(PAGE_SIZE);
    SAME(LARGE_PAGE_SIZE);
    SAME(STACK_SIZE);

    FIELD(LCPU_STATE, lcpu, state);
    FIELD(LCPU_INDEX, lcpu, idx);
    FIELD(LCPU_APIC_ID, lcpu, id);
    FIELD(LCPU_ENTRY, lcpu, entry);
    FIELD(LCPU_STACK, lcpu, stack);
    FIELD(LCPU_RECORD, lcpu, record);
    CONSTANT(LCPU_SIZE, sizeof(struct lcpu));
    CONSTANT(LCPU_TABLE_SIZE, LCPU_TABLE_SIZE);
    SAME(LCPU_STATE_BOOTING);
    SAME(LCPU_STATE_ALIVE);

    FIELD(PARAM_CR3, trampoline_parameters, cr3);
    FIELD(PARAM_EFER, trampoline_parameters, efer);
    FIELD(PARAM_LCPUS, trampoline_parameters, lcpus);
    FIELD(PARAM_LCPU_COUNT, trampoline_parameters, lcpu_count);
    FIELD(PARAM_TRACE_SEGMENT, trampoline_parameters, trace_segment);
    CONSTANT(TRAMPOLINE_PARAMETERS_SIZE, sizeof(struct trampoline_parameters));

    SAME(TRACE_SINK_E9);
    SAME(TRACE_SINK_COM1);
    SAME(TRACE_SINK_MEMORY);
    SAME(TRACE_SINKS_ALL);
    SAME(TRACE_BSP_ENTRIES);
    SAME(TRACE_ENTRY_SHIFT);
    SAME(TRACE_COM1_POLLS);
    FIELD(TRACE_CONTROL_LOCK, trace_control, lock);
    FIELD(TRACE_CONTROL_SINKS, trace_control, sinks);
    SAME(TRACE_CLOCK_SHIFT);
    FIELD(TRACE_CONTROL_STEAL_AFTER, trace_control, steal_after);
    FIELD(TRACE_CONTROL_STEALS, trace_control, steals);
    FIELD(TRACE_CONTROL_SLOTS, trace_control, slots);
    FIELD(TRACE_CONTROL_NEXT, trace_control, next);
    FIELD(TRACE_CONTROL_END, trace_control, end);
    FIELD(TRACE_CONTROL_RECORD_BYTES, trace_control, record_bytes);
    FIELD(TRACE_CONTROL_RECORDS, trace_control, records);
    CONSTANT(TRACE_CONTROL_SIZE, sizeof(struct trace_control));
    FIELD(TRACE_RECORD_APIC_ID, trace_record, apic_id);
    FIELD(TRACE_RECORD_COUNT, trace_record, count);
    FIELD(TRACE_RECORD_ENTRIES, trace_record, entries);
    FIELD(TRACE_RECORD_CAPACITY, trace_record, capacity);
    FIELD(TRACE_RECORD_PREFIX_LEN, trace_record, prefix_len);
    FIELD(TRACE_RECORD_PREFIX_SUM, trace_record, prefix_sum);
    FIELD(TRACE_RECORD_FRAME_LEN, trace_record, frame_len);
    FIELD(TRACE_RECORD_FRAME, trace_record, frame);
    FIELD(TRACE_RECORD_WAITING_SINCE, trace_record, waiting_since);
    FIELD(TRACE_RECORD_CONTROL, trace_record, control);
    FIELD(TRACE_RECORD_OWNER, trace_record, owner);
    CONSTANT(TRACE_RECORD_SIZE, sizeof(struct trace_record));
    SAME(TRACE_PARAGRAPH);
    CONSTANT(TRACE_SLOT_PARAGRAPHS,
             sizeof(struct trace_ap_record) / TRACE_PARAGRAPH);
#define STAGE(code, name, mode, became, needs)                                 \
    EMIT("SLOT_OF_" #name, SLOT_##name);                                       \
    EMIT("LEAVES_AT_" #name, TRACE_LEAVES(code));
#include "../trampoline/stages.h"
#undef STAGE
    FIELD(TRACE_ENTRY_TSC, trace_entry, tsc);
    FIELD(TRACE_ENTRY_ARGUMENT, trace_entry, argument);
    FIELD(TRACE_ENTRY_STAGE, trace_entry, stage);
}
