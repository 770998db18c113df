/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A QEMU TCG plugin for machines whose code nobody knows: how many
 * instructions all vCPUs have executed so far [QEMU, "TCG Plugins"].
 *
 *   -plugin running_total.so -d plugin -D FILE
 *
 * It writes a line "executed N" before each byte that goes to a port, and
 * after each store to an address that a local APIC's ICR could have.  QEMU's
 * own trace goes to the same file: the lines beside these say what it was
 * (tests/bench/running_total.py).
 *
 * It asks for one thread for all vCPUs (tcg,thread=single).
 */
#include <inttypes.h>
#include <stdio.h>

#include "qemu_plugin.h"

#define COPIES_INSTRUCTIONS (PLUGIN_VERSION >= 3)

#define OUT_DX_AL 0xee
#define PAGE_MASK 0xfffu
#define ICR_LOW   0x300u

enum { STORES = 2 };

typedef void stored(unsigned vcpu, uint32_t info, uint64_t at, void *data);

#if COPIES_INSTRUCTIONS
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to,
                             size_t size);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
                                      stored *call, int registers, int kind,
                                      void *data);
void qemu_plugin_outs(const char *text);

static uint64_t total;

static void say(void)
{
    char line[40];
    snprintf(line, sizeof line, "executed %" PRIu64 "\n", total);
    qemu_plugin_outs(line);
}

static void count(unsigned vcpu, void *data)
{
    (void)vcpu;
    (void)data;
    total++;
}

static void count_and_say(unsigned vcpu, void *data)
{
    count(vcpu, data);
    say();
}

static void say_if_icr(unsigned vcpu, uint32_t info, uint64_t at, void *data)
{
    (void)vcpu;
    (void)info;
    (void)data;
    if ((at & PAGE_MASK) == ICR_LOW)
        say();
}

static uint8_t first_byte(const struct qemu_plugin_insn *insn)
{
#if COPIES_INSTRUCTIONS
    uint8_t byte = 0;
    qemu_plugin_insn_data(insn, &byte, sizeof byte);
    return byte;
#else
    return *(const uint8_t *)qemu_plugin_insn_data(insn);
#endif
}

static void block_translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    size_t size = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < size; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
        qemu_plugin_register_vcpu_insn_exec_cb(
            insn, first_byte(insn) == OUT_DX_AL ? count_and_say : count,
            CALLBACK_NEEDS_NO_REGISTERS, NULL);
        qemu_plugin_register_vcpu_mem_cb(
            insn, say_if_icr, CALLBACK_NEEDS_NO_REGISTERS, STORES, NULL);
    }
}

VISIBLE int qemu_plugin_install(plugin_id id, const void *info, int argc,
                                char **argv);
VISIBLE int qemu_plugin_install(plugin_id id, const void *info, int argc,
                                char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    return 0;
}
