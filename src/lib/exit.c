/* SPDX-License-Identifier: BSD-2-Clause */
#include "lib/exit.h"

#include "cpu/cpu.h"
#include "lib/console.h"
#include "lib/printf.h"
#include "trace/stage.h"

void machine_exit(enum exit_code code)
{
    STAGE_WITH(BSP_EXIT, code);
    trace_drain();
    machine_end(code);
}

void machine_end(enum exit_code code)
{
    outb(ISA_DEBUG_EXIT, (uint8_t)code);
    for (const char *s = "Shutdown"; *s; s++)
        outb(BOCHS_SHUTDOWN, (uint8_t)*s);
    halt_forever();
}

void boot_error(enum exit_code code, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    format_text(text, sizeof text, format, arguments);
    va_end(arguments);
    STAGE_WITH(BOOT_ERROR, code);
    console_printf("lamppost: %s\n", text);
    machine_exit(code);
}
