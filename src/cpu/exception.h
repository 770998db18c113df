/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel did not expect: reported in words, then panic. */
#pragma once

#include <stdbool.h>

#include "cpu/vectors.h"

/* `gs_was_wrong`: GS base was not this CPU's own until now. */
void exception_handle(struct trap_frame *frame, bool gs_was_wrong);
