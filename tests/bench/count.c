/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A QEMU TCG plugin: the instructions that each vCPU executes between two
 * addresses [QEMU, "TCG Plugins"].
 *
 *   -plugin count.so,start=A,stop=A,arrive=A,call=A,out=FILE    (A: an address)
 *
 * From the first execution of `start` to the first of `stop`, by any vCPU.
 * FILE then holds one line for each vCPU that executed something: its index,
 * its instructions, of these those before it first executed `arrive` (all of
 * them if it did not), and how often it executed `call`.
 *
 * It asks for one thread for all vCPUs (-icount, or tcg,thread=single).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define MAX_VCPUS 1024

uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

static struct count {
    uint64_t executed;
    uint64_t arrived; /* `executed` at `arrive`; meaningful if has_arrived */
    bool has_arrived;
    uint64_t calls;
} counts[MAX_VCPUS];

static uint64_t start_at, stop_at, arrive_at, call_at;
static const char *out;
static bool running, done;

static void count(unsigned vcpu, void *data)
{
    (void)data;
    if (running && vcpu < MAX_VCPUS)
        counts[vcpu].executed++;
}

static void start(unsigned vcpu, void *data)
{
    running = !done;
    count(vcpu, data);
}

static void arrive(unsigned vcpu, void *data)
{
    if (running && vcpu < MAX_VCPUS && !counts[vcpu].has_arrived) {
        counts[vcpu].has_arrived = true;
        counts[vcpu].arrived = counts[vcpu].executed;
    }
    count(vcpu, data);
}

static void call(unsigned vcpu, void *data)
{
    if (running && vcpu < MAX_VCPUS)
        counts[vcpu].calls++;
    count(vcpu, data);
}

static void stop(unsigned vcpu, void *data)
{
    (void)vcpu;
    (void)data;
    if (!running)
        return;
    running = false;
    done = true;
    FILE *file = fopen(out, "w");
    if (!file)
        return;
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        const struct count *c = &counts[i];
        if (c->executed)
            fprintf(file, "%u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i,
                    c->executed, c->has_arrived ? c->arrived : c->executed,
                    c->calls);
    }
    fclose(file);
}

static void block_translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    size_t size = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < size; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
        uint64_t at = qemu_plugin_insn_vaddr(insn);
        executed *what = at == start_at    ? start
                         : at == stop_at   ? stop
                         : at == call_at   ? call
                         : at == arrive_at ? arrive
                                           : count;
        qemu_plugin_register_vcpu_insn_exec_cb(
            insn, what, CALLBACK_NEEDS_NO_REGISTERS, NULL);
    }
}

VISIBLE int qemu_plugin_install(plugin_id id, const void *info, int argc,
                                char **argv);
VISIBLE int qemu_plugin_install(plugin_id id, const void *info, int argc,
                                char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            return -1;
        size_t length = (size_t)(value - argv[i]);
        value++;
        if (!strncmp(argv[i], "start", length))
            start_at = strtoull(value, NULL, 0);
        else if (!strncmp(argv[i], "stop", length))
            stop_at = strtoull(value, NULL, 0);
        else if (!strncmp(argv[i], "arrive", length))
            arrive_at = strtoull(value, NULL, 0);
        else if (!strncmp(argv[i], "call", length))
            call_at = strtoull(value, NULL, 0);
        else if (!strncmp(argv[i], "out", length))
            out = strdup(value);
        else
            return -1;
    }
    if (!out || !start_at || !stop_at)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    return 0;
}
