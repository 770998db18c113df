# SPDX-License-Identifier: BSD-2-Clause
"""The face in GDB: a session that starts QEMU and GDB together, and the `lamp` commands.

seam.py is the only module that imports `gdb`; everything else sees the Debugger protocol.
"""
