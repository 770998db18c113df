/* SPDX-License-Identifier: BSD-2-Clause */
/* The heap for the CPU that asks: an interrupt's handler may ask too. */
#include "cpu/cpu.h"
#include "cpu/percpu.h"
#include "mm/heap.h"

void *kmalloc(size_t size)
{
    uint64_t flags = interrupts_save();
    void *piece = heap_allocate(this_cpu()->lcpu->idx, size);
    interrupts_restore(flags);
    return piece;
}

void kfree(void *piece)
{
    uint64_t flags = interrupts_save();
    heap_free(this_cpu()->lcpu->idx, piece);
    interrupts_restore(flags);
}
