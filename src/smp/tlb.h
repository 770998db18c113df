/* SPDX-License-Identifier: BSD-2-Clause */
/* What every CPU must forget when a mapping goes or changes. */
#pragma once

#include <stdint.h>

/* When it returns, no CPU uses an old translation of [start, end). */
void tlb_shootdown(uint64_t start, uint64_t end);
