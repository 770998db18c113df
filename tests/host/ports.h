/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ports for code that runs as a process: IN, OUT, REP OUTSB and CLI raise
 * SIGSEGV there, and the handler does what a QEMU machine does.  Beside them
 * what src/trace/trace.c needs from the rest of the kernel.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PORT_LOG (1u << 20)

struct port_log {
    _Atomic size_t size;
    char bytes[PORT_LOG];
};

extern struct port_log port_e9, port_com1;

/* Whether the UART says that it is ready; how often it was asked. */
extern _Atomic int uart_ready;
extern _Atomic unsigned uart_polls;

void ports_begin(void);
