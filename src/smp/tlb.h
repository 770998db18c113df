/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every CPU must forget when a mapping goes or changes.  The page tables
 * have a generation, which each change raises; each CPU knows up to which one
 * its TLB has forgotten.
 */
#pragma once

#include <stdint.h>

/* When it returns, no CPU uses an old translation of [start, end).  The entry
 * has been changed. */
void tlb_shootdown(uint64_t start, uint64_t end);

/* Forget what is older than the page tables, if anything is; interrupts
 * off. */
void tlb_catch_up(void);

/* The same, whatever the generation: for a CPU that shootdowns did not reach
 * until now.  From now on it keeps global pages when CR3 is loaded. */
void tlb_join(void);
