/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Formatted text: d i u x X o c s p and %, with the flags - 0 + space #, a
 * width, a precision (numbers or *), and the lengths hh h l ll z.  No floating
 * point.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

/* Write at most `size` bytes including the final null; return the length that
 * the whole text has, as C11 7.21.6.12 asks.  An unknown conversion is copied
 * as it stands. */
int format_text(char *to, size_t size, const char *format, va_list arguments);

__attribute__((format(printf, 3, 4))) int
format_string(char *to, size_t size, const char *format, ...);
