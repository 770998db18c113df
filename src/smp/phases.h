/* SPDX-License-Identifier: BSD-2-Clause */
/* Self-tests of the bring-up's phases, when it is over: each says whether its
 * claim holds of the trampoline at physical `page`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool low_memory_is_writable(uint64_t page);
bool trampoline_cr3_is_sane(uint64_t page);
bool trampoline_is_intact(uint64_t page);
bool ap_states_changed(void);
