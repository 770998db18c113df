# SPDX-License-Identifier: BSD-2-Clause
"""The architecture itself: what an x86 CPU does with its registers, tables and instructions.

Pure functions over bytes and `debug.evidence.Registers`; nothing here knows an emulator, a
debugger or a failure.  Where hardware would refuse, the answer is the first check that fails in
the manual's order, with the exception that hardware raises.
"""
