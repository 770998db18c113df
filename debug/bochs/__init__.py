# SPDX-License-Identifier: BSD-2-Clause
"""Bochs's own debugger, scripted: stops at the trampoline, lcpu_start64, ap_entry and mode switches."""
