/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "ports.h"

#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#include "trace/trace.h"

#define PORT_E9   0xe9
#define COM1_DATA 0x3f8
#define COM1_LSR  0x3fd
#define LSR_THRE  0x20

struct port_log port_e9, port_com1;
_Atomic int uart_ready = 1;
_Atomic unsigned uart_polls;

static void write_port(uint16_t port, char c)
{
    struct port_log *log = port == PORT_E9     ? &port_e9
                           : port == COM1_DATA ? &port_com1
                                               : NULL;
    if (!log)
        abort();
    size_t at = log->size++;
    if (at < PORT_LOG)
        log->bytes[at] = c;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)r[REG_RIP];
    uint16_t port = (uint16_t)r[REG_RDX];
    if (code[0] == 0xf3 && code[1] == 0x6e) { /* rep outsb */
        if (r[REG_RCX]) {
            /* One byte a fault: other threads get between, as CPUs do. */
            write_port(port, *(const char *)r[REG_RSI]);
            r[REG_RSI]++;
            r[REG_RCX]--;
            return;
        }
        r[REG_RIP] += 2;
    } else if (code[0] == 0xfa) { /* cli */
        r[REG_RIP]++;
    } else if (code[0] == 0xee) { /* out dx, al */
        write_port(port, (char)r[REG_RAX]);
        r[REG_RIP]++;
    } else if (code[0] == 0xec && port == COM1_LSR) { /* in al, dx */
        uart_polls++;
        r[REG_RAX] = (r[REG_RAX] & ~0xffll) | (uart_ready ? LSR_THRE : 0);
        r[REG_RIP]++;
    } else {
        signal(SIGSEGV, SIG_DFL); /* a real fault: let it happen again */
    }
}

void ports_begin(void)
{
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSEGV, &action, NULL))
        abort();
    port_e9.size = port_com1.size = 0;
    uart_ready = 1;
    uart_polls = 0;
}

/* ---------------------------------------- what trace.c links against */

struct trace_control boot_trace_control_high = {.magic = TRACE_MAGIC};
struct trace_record boot_trace_record_high;

void *paging_window(uint64_t physical);
uint64_t tsc_cycles(uint64_t us);

void *paging_window(uint64_t physical)
{
    return (void *)physical; /* records here hold pointers */
}

uint64_t tsc_cycles(uint64_t us)
{
    return us * 1000;
}
