/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a QEMU TCG plugin here uses of QEMU's interface, which Debian ships no
 * qemu-plugin.h for [QEMU, "TCG Plugins"].  One file includes it once: it
 * defines the version that QEMU asks for.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif

#define VISIBLE __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { CALLBACK_NEEDS_NO_REGISTERS = 0 };

typedef void translated(plugin_id id, struct qemu_plugin_tb *block);
typedef void executed(unsigned vcpu, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, translated *call);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *
qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            executed *call, int registers,
                                            void *data);

VISIBLE int qemu_plugin_version = PLUGIN_VERSION;
