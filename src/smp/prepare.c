/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's own trampoline: copied, relocated, given its parameters and
 * mapped where the APs will run it. */
#include "cpu/cpu.h"
#include "lib/exit.h"
#include "mm/paging.h"
#include "smp/lcpu.h"
#include "smp/trampoline.h"
#include "trace/stage.h"

/* src/smp/blob.asm */
extern const uint8_t trampoline_image[], trampoline_image_end[];
extern const uint8_t trampoline_stamp_image[], trampoline_stamp_image_end[];
extern const uint8_t trampoline_skip_image[], trampoline_skip_image_end[];
extern const struct trampoline_relocation trampoline_relocations[];
extern const struct trampoline_relocation trampoline_relocations_end[];

static uint64_t trace_page(size_t i)
{
    return ((uint64_t)trace_segment() << 4) + i * PAGE_SIZE;
}

/* The trace area, which 32- and 64-bit trampoline code addresses physically. */
static size_t trace_pages(void)
{
    if (!trace_segment())
        return 0;
    return (trace_area_size(lcpu_count) + PAGE_SIZE - 1) / PAGE_SIZE;
}

/* The image whose stage sites serve the sinks and do nothing else. */
enum trampoline_error trampoline_install_own(uint8_t *page, uint64_t address)
{
    const uint8_t *image = trampoline_image, *end = trampoline_image_end;
    if (trace_stamps)
        image = trampoline_stamp_image, end = trampoline_stamp_image_end;
    else if (!trace_control->sinks)
        image = trampoline_skip_image, end = trampoline_skip_image_end;
    return trampoline_install(
        page, address, image, (size_t)(end - image), trampoline_relocations,
        (size_t)(trampoline_relocations_end - trampoline_relocations));
}

void trampoline_prepare(uint64_t address)
{
    uint8_t *page = phys_to_virt(address);
    enum trampoline_error error = trampoline_install_own(page, address);
    STAGE_WITH(BSP_TRAMPOLINE, address);
    if (error != TRAMPOLINE_OK)
        boot_error(EXIT_TRAMPOLINE,
                   "the trampoline can't be installed at %#lx: %s; choose "
                   "another page (trampoline=0x9000)",
                   address, trampoline_error_text(error));
    STAGE(BSP_RELOCATED);

    if (paging_root() >> 32)
        boot_error(EXIT_TRAMPOLINE,
                   "the PML4 lies at %#lx: 32-bit code can load CR3 only with "
                   "an address below 4 GiB",
                   paging_root());
    *(struct trampoline_parameters *)(page + TRAMPOLINE_PARAMETERS) =
        (struct trampoline_parameters){
            .cr3 = (uint32_t)paging_root(),
            .efer = (uint32_t)rdmsr(MSR_EFER) & (EFER_LME | EFER_NXE),
            .lcpu_count = lcpu_count,
            .trace_segment = trace_segment(),
            .lcpus = (uint64_t)lcpu_table,
        };
    paging_map(address, address, 0);
    for (size_t i = 0; i < trace_pages(); i++)
        paging_map(trace_page(i), trace_page(i), PAGE_WRITE | PAGE_NX);
    STAGE(BSP_TABLES_READY);
}

void trampoline_retire(uint64_t address)
{
    paging_unmap(address);
    for (size_t i = 0; i < trace_pages(); i++)
        paging_unmap(trace_page(i));
}
