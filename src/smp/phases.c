/* SPDX-License-Identifier: BSD-2-Clause */
#include "smp/phases.h"

#include "cpu/cpu.h"
#include "lib/string.h"
#include "mm/frames.h"
#include "mm/layout.h"
#include "mm/paging.h"
#include "smp/lcpu.h"
#include "smp/trampoline.h"

bool low_memory_is_writable(uint64_t page)
{
    /* The last byte is poison behind the image: no CPU executes it. */
    volatile uint8_t *last = (uint8_t *)phys_to_virt(page) + PAGE_SIZE - 1;
    uint8_t before = *last, other = before ^ 0xff;
    *last = other;
    bool changed = *last == other;
    *last = before;
    return changed && *last == before;
}

bool trampoline_cr3_is_sane(uint64_t page)
{
    struct trampoline_parameters p;
    memcpy(&p, (uint8_t *)phys_to_virt(page) + TRAMPOLINE_PARAMETERS, sizeof p);
    return p.cr3 && p.cr3 % PAGE_SIZE == 0 && p.cr3 == paging_root() &&
           p.cr3 == (read_cr3() & PAGE_ADDRESS) &&
           paging_is_mapped((uint64_t)lcpus);
}

/* Installed once more elsewhere, it is the same but for its parameters. */
bool trampoline_is_intact(uint64_t page)
{
    const uint8_t *used = phys_to_virt(page);
    uint64_t frame = frames_allocate(1);
    uint8_t *fresh = phys_to_virt(frame);
    bool installed = trampoline_install_own(fresh, page) == TRAMPOLINE_OK;
    size_t after = TRAMPOLINE_PARAMETERS + sizeof(struct trampoline_parameters);
    bool same = !memcmp(used, fresh, TRAMPOLINE_PARAMETERS) &&
                !memcmp(used + after, fresh + after, PAGE_SIZE - after);
    frames_free(frame, 1);
    return installed && same;
}

bool ap_states_changed(void)
{
    if (atomic_load_explicit(&lcpus[0].state, memory_order_acquire) !=
        LCPU_STATE_BSP)
        return false;
    for (unsigned i = 1; i < lcpu_count; i++)
        if (atomic_load_explicit(&lcpus[i].state, memory_order_acquire) !=
            LCPU_STATE_WORKING)
            return false;
    return true;
}
