/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text for a person, on port 0xE9 and COM1 together.
 *
 * A call is one piece: no frame and no other CPU's text gets between its
 * characters.  An '@' is doubled, so that text is never taken for a frame.
 */
#pragma once

#include <stddef.h>

__attribute__((format(printf, 1, 2))) void console_printf(const char *format,
                                                          ...);
