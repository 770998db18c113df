/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "boot/options.h"
#include "lib/exit.h"

/* Check what the boot made true, one KTAP line each; returns what the machine
 * must exit with. */
enum exit_code selftest_run(const struct options *options, unsigned online,
                            uint64_t trampoline);
