/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An exception in the kernel is a bug: report it in words and panic.  The
 * report is the kernel's own; a CPU that can't even get here triple-faults,
 * and then debug/ explains.
 */
#include "cpu/exception.h"

#include "cpu/percpu.h"
#include "cpu/probe.h"
#include "lib/console.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "mm/layout.h"
#include "mm/stacks.h"
#include "trace/stage.h"

/* [SDM 3A "Protected-Mode Exceptions and Interrupts"] */
static const char *const names[VECTOR_EXCEPTIONS] = {
    [0] = "#DE divide error",
    [1] = "#DB debug",
    [2] = "NMI",
    [3] = "#BP breakpoint",
    [4] = "#OF overflow",
    [5] = "#BR bound range exceeded",
    [6] = "#UD invalid opcode",
    [7] = "#NM device not available",
    [8] = "#DF double fault",
    [10] = "#TS invalid TSS",
    [11] = "#NP segment not present",
    [12] = "#SS stack fault",
    [13] = "#GP general protection",
    [14] = "#PF page fault",
    [16] = "#MF x87 floating-point error",
    [17] = "#AC alignment check",
    [18] = "#MC machine check",
    [19] = "#XM SIMD floating-point error",
    [20] = "#VE virtualization",
    [21] = "#CP control protection",
};

enum page_fault_error {
    PAGE_FAULT_PRESENT = 1,
    PAGE_FAULT_WRITE = 2,
    PAGE_FAULT_USER = 4,
    PAGE_FAULT_RESERVED = 8,
    PAGE_FAULT_FETCH = 16,
};

enum selector_error {
    SELECTOR_ERROR_EXTERNAL = 1,
    SELECTOR_ERROR_IDT = 2,
    SELECTOR_ERROR_LDT = 4,
};

static const char *name_of(const struct trap_frame *f)
{
    const char *name = f->vector < VECTOR_EXCEPTIONS ? names[f->vector] : NULL;
    return name ? name : "unexpected interrupt";
}

/* What the error code says, or only that it is 0, as without one. */
static void describe_error(char *to, size_t size, const struct trap_frame *f)
{
    uint64_t e = f->error_code;
    if (f->vector == VECTOR_PAGE_FAULT)
        format_string(to, size, "%s at %#lx: %s (error code %#lx)",
                      e & PAGE_FAULT_FETCH   ? "instruction fetch"
                      : e & PAGE_FAULT_WRITE ? "write"
                                             : "read",
                      read_cr2(),
                      e & PAGE_FAULT_RESERVED  ? "a reserved bit is set"
                      : e & PAGE_FAULT_PRESENT ? "the page does not allow it"
                                               : "the page is not present",
                      e);
    else if (e)
        format_string(
            to, size, "%s %#lx%s (error code %#lx)",
            e & SELECTOR_ERROR_IDT   ? "IDT vector"
            : e & SELECTOR_ERROR_LDT ? "LDT selector"
                                     : "selector",
            e & SELECTOR_ERROR_IDT ? e >> 3 : e & 0xfff8,
            e & SELECTOR_ERROR_EXTERNAL ? ", by an outside event" : "", e);
    else
        format_string(to, size, "error code 0");
}

static bool is_kernel_text(uint64_t address)
{
    extern char kernel_text_start[], kernel_rodata_start[];
    return address >= (uint64_t)kernel_text_start &&
           address < (uint64_t)kernel_rodata_start;
}

/* Walk the frame pointers of the stack that `rbp` lies in, not further. */
static void backtrace(uint64_t rbp)
{
    uint64_t stack = rbp & ~(uint64_t)(STACK_SIZE - 1);
    for (int depth = 0; depth < 16; depth++) {
        if (!rbp || rbp & 7 || (rbp & ~(uint64_t)(STACK_SIZE - 1)) != stack)
            return;
        const uint64_t *frame = (const uint64_t *)rbp;
        if (!is_kernel_text(frame[1]) || frame[0] <= rbp)
            return;
        console_printf("    called from %#lx\n", frame[1]);
        rbp = frame[0];
    }
}

static void report(const struct trap_frame *f)
{
    const struct lcpu *lcpu = this_cpu()->lcpu;
    char detail[128];
    describe_error(detail, sizeof detail, f);
    console_printf("CPU %u (APIC ID %u): %s, vector %lu\n", lcpu->idx, lcpu->id,
                   name_of(f), f->vector);
    console_printf("    %s\n", detail);
    const struct thread *thread = this_cpu()->thread;
    if (thread->id)
        console_printf("    in thread %u \"%s\"\n", thread->id, thread->name);
    /* A page fault whose frame can't be pushed either becomes a #DF. */
    bool unmapped =
        f->vector == VECTOR_PAGE_FAULT && !(f->error_code & PAGE_FAULT_PRESENT);
    char stack[60];
    if ((unmapped || f->vector == VECTOR_DOUBLE_FAULT) &&
        stack_above_guard(read_cr2(), stack, sizeof stack))
        console_printf("    cr2 %016lx is the unmapped page below %s: the "
                       "stack overflowed\n",
                       read_cr2(), stack);
    console_printf("    rip %016lx  rsp %016lx  rflags %016lx\n"
                   "    rax %016lx  rbx %016lx  rcx %016lx\n"
                   "    rdx %016lx  rsi %016lx  rdi %016lx\n"
                   "    rbp %016lx  r8  %016lx  r9  %016lx\n",
                   f->rip, f->rsp, f->rflags, f->rax, f->rbx, f->rcx, f->rdx,
                   f->rsi, f->rdi, f->rbp, f->r8, f->r9);
    console_printf("    r10 %016lx  r11 %016lx  r12 %016lx\n"
                   "    r13 %016lx  r14 %016lx  r15 %016lx\n"
                   "    cr0 %016lx  cr3 %016lx  cr4 %016lx\n",
                   f->r10, f->r11, f->r12, f->r13, f->r14, f->r15, read_cr0(),
                   read_cr3(), read_cr4());
    backtrace(f->rbp);
}

void exception_handle(struct trap_frame *frame, bool gs_was_wrong)
{
    if (frame->vector == VECTOR_PAGE_FAULT &&
        frame->rip == (uint64_t)probe_load) {
        frame->rip = (uint64_t)probe_failed;
        return;
    }
    if (frame->vector == VECTOR_NMI)
        panic_stop_here(frame);
    char what[80];
    format_string(what, sizeof what, "%s at rip %#lx", name_of(frame),
                  frame->rip);
    panic_enter(what);
    uint8_t last = trace_last_stage(this_cpu()->lcpu->id);
    STAGE_WITH(EXCEPTION, frame->vector);
    panic_begin();
    report(frame);
    if (gs_was_wrong)
        console_printf(
            "    GS base was not the kernel's: one SWAPGS too many or "
            "too few\n");
    if (last)
        console_printf("    last stage %02x: %s\n", last, stage_sentence(last));
    panic_end("an exception that the kernel does not expect");
}
