/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "lib/console.h"
#include "lib/panic.h"
#include "time/tsc.h"

#define CPUS 64

_Thread_local uint64_t host_rflags;
_Thread_local struct percpu host_percpu;
_Thread_local jmp_buf *host_panic;
char host_console[4096];
_Thread_local uint64_t host_cycles_per_us = 3000;

static struct lcpu blocks[CPUS];
static pthread_mutex_t console = PTHREAD_MUTEX_INITIALIZER;
static size_t written;
/* As in the kernel: the first that panics stops the others. */
static _Atomic bool panicking;

void become_cpu(unsigned index)
{
    blocks[index].idx = index;
    host_percpu = (struct percpu){.lcpu = &blocks[index]};
    host_rflags = RFLAGS_IF;
}

void machine_forget(void)
{
    written = 0;
    host_console[0] = 0;
    atomic_store(&panicking, false);
}

struct start {
    unsigned cpu;
    void (*function)(unsigned cpu);
    bool panicked;
};

static void *run(void *argument)
{
    struct start *start = argument;
    jmp_buf come_back;
    become_cpu(start->cpu);
    host_panic = &come_back;
    if (setjmp(come_back))
        start->panicked = true;
    else
        start->function(start->cpu);
    return NULL;
}

unsigned on_cpus(unsigned count, void (*function)(unsigned cpu))
{
    struct start starts[CPUS];
    pthread_t threads[CPUS];
    unsigned panicked = 0;
    for (unsigned i = 0; i < count; i++) {
        starts[i] = (struct start){.cpu = i, .function = function};
        assert_int_equal(pthread_create(&threads[i], NULL, run, &starts[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        panicked += starts[i].panicked;
    }
    return panicked;
}

/* ------------------------------------------------ in place of src/lib */

static void print(const char *format, va_list arguments)
{
    pthread_mutex_lock(&console);
    int length = vsnprintf(host_console + written,
                           sizeof host_console - written, format, arguments);
    written += (size_t)length;
    if (written >= sizeof host_console)
        written = sizeof host_console - 1;
    pthread_mutex_unlock(&console);
}

void console_printf(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print(format, arguments);
    va_end(arguments);
}

void panic_begin(void)
{
    if (atomic_exchange(&panicking, true))
        longjmp(*host_panic, 1);
}

void panic_end(const char *text)
{
    console_printf("%s\n", text);
    longjmp(*host_panic, 1);
}

void panic(const char *format, ...)
{
    panic_begin();
    va_list arguments;
    va_start(arguments, format);
    print(format, arguments);
    va_end(arguments);
    longjmp(*host_panic, 1);
}

void pause(void)
{
    if (atomic_load(&panicking) && host_panic)
        longjmp(*host_panic, 1);
    sched_yield();
}

uint64_t tsc_cycles(uint64_t us)
{
    return us * host_cycles_per_us;
}

uint64_t deadline_in(uint64_t us)
{
    return rdtsc() + tsc_cycles(us);
}
