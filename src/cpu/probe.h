/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading what may not be mapped, for tests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* *to = *from; false if that raised #PF. */
bool probe_read(const uint64_t *from, uint64_t *to);

/* The instruction that may fault, and where to go on then. */
extern const char probe_load[], probe_failed[];
