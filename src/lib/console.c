/* SPDX-License-Identifier: BSD-2-Clause */
#include "lib/console.h"

#include "lib/printf.h"
#include "trace/stage.h"

#define CONSOLE_LINE 512

void console_printf(const char *format, ...)
{
    char line[CONSOLE_LINE];
    va_list arguments;
    va_start(arguments, format);
    int length = format_text(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof line)
        length = sizeof line - 1;

    char text[2 * CONSOLE_LINE];
    size_t size = 0;
    for (int i = 0; i < length; i++) {
        if (line[i] == '@')
            text[size++] = '@';
        text[size++] = line[i];
    }
    trace_write(text, size, TRACE_SINK_E9 | TRACE_SINK_COM1);
}
