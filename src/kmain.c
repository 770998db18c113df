/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's table of contents: each line needs what the lines above it
 * made true, and lights the lamp that says so.
 *
 * In: 64-bit mode, interrupts off, the boot page tables (the first GiB, low
 * and at KERNEL_BASE), the boot stack (src/boot/entry.asm).
 */
#include "acpi/acpi.h"
#include "apic/apic.h"
#include "boot/bootinfo.h"
#include "boot/options.h"
#include "cpu/percpu.h"
#include "cpu/ring3.h"
#include "lib/console.h"
#include "lib/exit.h"
#include "mm/frames.h"
#include "mm/paging.h"
#include "mm/stacks.h"
#include "sched/idle.h"
#include "sched/sched.h"
#include "sched/workload.h"
#include "selftest.h"
#include "smp/barrier.h"
#include "smp/bringup.h"
#include "smp/call.h"
#include "smp/trampoline.h"
#include "time/timer.h"
#include "time/tsc.h"
#include "trace/stage.h"

_Noreturn void kmain(uint32_t magic, uint32_t info);

static struct bootinfo bootinfo;
static struct options options;

static const void *boot_window(uint64_t physical)
{
    return (const void *)(KERNEL_BASE + physical);
}

static uint64_t kernel_lies_at(void)
{
    extern char kernel_start[];
    return (uint64_t)kernel_start - KERNEL_BASE;
}

/* GS base and the BSP's block, so that everything below can light lamps,
 * print and fail in words. */
static void become_cpu_0(void)
{
    struct percpu *cpu = percpu_of(0);
    cpu->lcpu = &lcpus[0];
    cpu->lcpu->state = LCPU_STATE_BSP;
    lcpu_count = 1;
    cpu->record = trace_bsp_record();
    percpu_load(cpu);
}

static void read_boot_information(uint32_t magic, uint32_t info)
{
    char error[300];
    const char *problem =
        bootinfo_read(&bootinfo, magic, boot_window(info), boot_window);
    if (problem)
        boot_error(EXIT_BAD_LOADER, "%s", problem);
    if (!options_parse(&options, bootinfo.cmdline, error, sizeof error))
        boot_error(EXIT_BAD_OPTION, "%s", error);
    trace_choose_sinks(options.sinks);
    trace_bsp_begin();
}

/* Nothing, if the map is as it should be. */
static void report_memory_map(void)
{
    if (bootinfo.ignored)
        console_printf("memory map: %zu entries ignored: empty, or their end "
                       "is beyond 64 bits\n",
                       bootinfo.ignored);
    if (bootinfo.overlaps)
        console_printf("memory map: entries of different types overlap in %zu "
                       "places: RAM that another type claims is not used\n",
                       bootinfo.overlaps);
    if (bootinfo.dropped)
        console_printf("memory map: more than %d entries: the last %zu are "
                       "not read\n",
                       BOOT_REGIONS_MAX, bootinfo.dropped);
}

/* Where in low memory the trampoline and the trace area go. */
static uint64_t plan_low_memory(uint64_t *trace_area)
{
    uint64_t wanted =
        options.trampoline ? options.trampoline : TRAMPOLINE_DEFAULT;
    uint64_t page = low_pages_find(&bootinfo, wanted, 1, LOW_MEMORY_END);
    if (!page)
        page = low_pages_find(&bootinfo, LOW_MEMORY_START, 1, LOW_MEMORY_END);
    if (!page)
        boot_error(EXIT_NO_LOW_PAGE,
                   "no free page below 640 KiB: an AP starts in real mode and "
                   "needs one, and the memory map has none");
    if (options.trampoline && page != wanted)
        boot_error(EXIT_NO_LOW_PAGE,
                   "trampoline=%#lx: the memory map does not call this page "
                   "free; boot with trampoline=%#lx, which is",
                   wanted, page);
    if (page != wanted)
        console_printf("the trampoline is at %#lx: the memory map does not "
                       "call %#lx free\n",
                       page, wanted);

    size_t pages = (trace_area_size(lcpu_count) + PAGE_SIZE - 1) / PAGE_SIZE;
    *trace_area = low_pages_find(&bootinfo, page, pages, page);
    if (!*trace_area)
        *trace_area = low_pages_find(&bootinfo, LOW_MEMORY_START, pages, page);
    if (!*trace_area && pages)
        boot_error(EXIT_NO_LOW_PAGE,
                   "no %zu consecutive free pages below 640 KiB for the trace "
                   "of %u CPUs; build the kernel with make TRACE=0",
                   pages, lcpu_count);
    return page;
}

_Noreturn void kmain(uint32_t magic, uint32_t info)
{
    become_cpu_0();
    STAGE(BSP_C);
    read_boot_information(magic, info);
    STAGE(BSP_OPTIONS);

    idt_init();
    descriptors_load(&percpu_of(0)->tables, stacks_of(0).ist);
    STAGE(BSP_DESCRIPTORS);
    console_printf("lamppost: loaded by %s, options \"%s\"\n",
                   bootinfo.protocol, bootinfo.cmdline);

    if (PIE)
        console_printf("a PIE at %#lx: the offset for lamppost's --symbols\n",
                       kernel_lies_at());
    report_memory_map();
    frames_init(&bootinfo);
    STAGE(BSP_MEMORY);
    paging_init(&bootinfo);
    frames_add_rest();
    stacks_map(0); /* its IST stacks: the BSP keeps the boot stack */
    STAGE(BSP_PAGING);

    const struct madt *madt = acpi_read_madt(&bootinfo);
    STAGE_WITH(BSP_ACPI, madt_usable(madt));
    pic_disable();
    apic_init(options.apic, madt->lapic_address);
    STAGE(BSP_APIC);
    STAGE_WITH(BSP_TIME, tsc_calibrate());
    timer_init();
    lcpus_init(madt, options.maxcpus);

    uint64_t trace_area;
    uint64_t trampoline = plan_low_memory(&trace_area);
    trace_move(trace_area, lcpu_count);
    trampoline_prepare(trampoline);

    uint64_t start = rdtsc();
    smp_bring_up(options.smp, trampoline);
    unsigned online = smp_await(LCPU_STATE_MEETING);
    uint64_t cycles = rdtsc() - start;
    rendezvous_open(online);
    rendezvous();
    STAGE(BSP_BARRIER);
    if (online == lcpu_count && options.smp != SMP_BROADCAST)
        trampoline_retire(trampoline); /* nobody can be parked in it */
    console_printf("bring-up took %lu TSC cycles (%lu us)\n", cycles,
                   tsc_microseconds(cycles));
    console_printf("%u of %u CPUs online\n", online, lcpu_count);
    sched_init();
    scheduler_gate_open();
    STAGE(BSP_SCHEDULER);
    ring3_init();
    smp_listen();
    timer_start();
    timer_prove();
    STAGE(BSP_INTERRUPTS);

    interrupts_on();
    online = smp_await(LCPU_STATE_WORKING);
    if (options.workload)
        workload_report(online);
    if (options.selftest)
        machine_exit(selftest_run(&options, online, trampoline));
    sched_main_over();
    idle();
}
