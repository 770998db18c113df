# SPDX-License-Identifier: BSD-2-Clause
#
# `make gdb HEADLESS=1`: the first AP at its three stops, then every CPU online.

# The trampoline: the first instruction after a SIPI, in real mode.
continue
lamp cpus

# Compatibility mode: between setting CR0.PG and the far jump.
disable
lamp break AP_PG
continue
lamp mode
lamp gdt
lamp walk 0x8000 --fetch

# 64-bit mode, and C.
disable
enable 2 3
continue
continue
lamp walk ap_entry --fetch

# The BSP has opened the scheduler gate.
disable
lamp break BSP_SCHEDULER
continue
lamp idt 8 13 14
lamp stages
lamp cpus
