/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel did not expect: reported in words, then panic. */
#pragma once

#include "cpu/vectors.h"

void exception_handle(struct trap_frame *frame);
